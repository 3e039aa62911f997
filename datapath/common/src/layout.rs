//! How keys and values of maps are written down: `repr(C)` without padding, which is asserted.

macro_rules! layouts {
    ($($(#[doc = $text:literal])+ $name:ident { $($(#[doc = $ftext:literal])+ $field:ident: $ty:ty,)+ })+) => {
        $(
            $(#[doc = $text])+
            #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
            #[repr(C)]
            pub struct $name { $($(#[doc = $ftext])+ pub $field: $ty,)+ }

            #[cfg(feature = "user")]
            // SAFETY: repr(C) of integers and byte arrays whose fields leave no padding (asserted below).
            unsafe impl aya::Pod for $name {}

            const _: () = assert!(size_of::<$name>() == 0 $(+ size_of::<$ty>())+, "padding");
        )+
    };
}
