/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Keeps how many bytes of the last packet a program can look at without asking for more, and asks the next program. For
 * `linear.rs`.
 */
#include "fabric_function.h"

FABRIC_LICENCE("Dual MIT/GPL");

#define UNSPEC (-1)

FABRIC_MAP(LINEAR, FABRIC_ARRAY, fabric_u32, fabric_u32, 1);

FABRIC_FUNCTION
int linear(struct __sk_buff *skb)
{
	fabric_u32 key = 0;
	fabric_u32 bytes = skb->data_end - skb->data;

	fabric_map_update(&LINEAR, &key, &bytes, 0);
	return UNSPEC;
}
