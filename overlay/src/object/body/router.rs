//! Routers.

use std::net::IpAddr;

use membership::id::Label;
use serde::{Deserialize, Serialize};

use super::{BodyError, PrefixV1, prefix, wire};
use crate::object::SpecError;
use crate::object::router::{RouterSpec, StaticRoute, Target};

#[derive(Serialize, Deserialize)]
pub(super) struct RouterV1 {
    networks: Vec<Label>,
    routes: Vec<(PrefixV1, TargetV1)>,
}

#[derive(Serialize, Deserialize)]
enum TargetV1 {
    Via(Vec<IpAddr>),
    Blackhole,
}

impl From<RouterSpec> for RouterV1 {
    fn from(spec: RouterSpec) -> Self {
        let target = |target: &Target| match target {
            Target::Via(hops) => TargetV1::Via(hops.clone().into()),
            Target::Blackhole => TargetV1::Blackhole,
        };
        let routes = spec.routes.iter().map(|(prefix, to)| (wire(prefix), target(to)));
        Self {
            routes: routes.collect(),
            networks: spec.networks.into(),
        }
    }
}

impl TryFrom<RouterV1> for RouterSpec {
    type Error = BodyError;

    fn try_from(wire: RouterV1) -> Result<Self, BodyError> {
        let route = |(to, target)| -> Result<StaticRoute, BodyError> {
            let target = match target {
                TargetV1::Via(hops) => Target::Via(hops.try_into()?),
                TargetV1::Blackhole => Target::Blackhole,
            };
            Ok(StaticRoute::new(prefix(to)?, target).map_err(SpecError::from)?)
        };
        let routes = wire.routes.into_iter().map(route);
        Ok(Self {
            networks: wire.networks.try_into()?,
            routes: routes.collect::<Result<Vec<StaticRoute>, BodyError>>()?.try_into()?,
        })
    }
}
