use super::*;
use bytes::Bytes;

fn endpoint() -> Spec {
    Spec::Endpoint(EndpointSpec {
        network: "lan".parse().unwrap(),
        mac: Some("02:00:00:00:00:01".parse().unwrap()),
        addresses: vec!["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()]
            .try_into()
            .unwrap(),
        labels: BTreeMap::from([("app".to_owned(), "web".to_owned())])
            .try_into()
            .unwrap(),
        allowed_addresses: AllowedAddresses::default(),
        allowed_hosts: vec!["fab1".parse().unwrap()].try_into().unwrap(),
    })
}

/// An endpoint that only version 2 can say.
fn appliance() -> Spec {
    let Spec::Endpoint(spec) = endpoint() else {
        panic!("an endpoint")
    };
    let allowed: Vec<Source> = ["10.0.0.9", "10.1.0.0/16", "fd01::/64"]
        .map(|it| it.parse().unwrap())
        .to_vec();
    Spec::Endpoint(EndpointSpec {
        allowed_addresses: allowed.try_into().unwrap(),
        ..spec
    })
}

/// A domain that only version 2 can say.
fn geneve() -> Spec {
    Spec::Domain(DomainSpec {
        encapsulation: Encapsulation::Geneve,
        ..DomainSpec::default()
    })
}

fn of(kind: &str, spec: &str) -> Spec {
    let text = format!("{{kind: {kind}, domain: red, name: x, spec: {spec}}}");
    let mut documents = crate::manifest::parse("test", &text).unwrap_or_else(|errors| panic!("{}", errors[0]));
    documents.remove(0).object.spec
}

fn router() -> Spec {
    of(
        "Router",
        "{networks: [a, b], routes: [{prefix: 0.0.0.0/0, via: [10.0.0.9]}, {prefix: 'fd00::/8', blackhole: true}]}",
    )
}

fn policy() -> Spec {
    of(
        "SecurityPolicy",
        "{priority: 7, appliesTo: {matchLabels: {app: web}, matchExpressions: [{key: a, operator: In, values: [x, y]}, {key: b, operator: NotIn, values: [z]}, {key: c, operator: Exists}, {key: d, operator: DoesNotExist}]},
          ingress: [{action: allow, protocol: tcp, ports: [80, 8000-8999]}, {action: audit, from: {cidrs: []}, protocol: icmp, icmpType: 8, icmpCode: 0, description: ping}, {action: deny, from: {cidrs: [10.0.0.0/8, 'fd00::/8']}, protocol: 47}],
          egress: [{action: allow, to: {selector: {}}, protocol: udp}, {action: allow, protocol: sctp}, {action: deny}]}",
    )
}

fn all() -> [Spec; 8] {
    [
        domain(),
        geneve(),
        network(),
        flooding(),
        endpoint(),
        appliance(),
        router(),
        policy(),
    ]
}

fn network() -> Spec {
    let subnets = vec!["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()];
    let vni = Vni::try_from(77).ok();
    Spec::Network(NetworkSpec {
        subnets: subnets.try_into().unwrap(),
        vni,
        mtu: None,
        unknown_unicast: UnknownUnicast::Drop,
    })
}

/// A network that only version 2 can say.
fn flooding() -> Spec {
    let Spec::Network(spec) = network() else {
        panic!("a network")
    };
    Spec::Network(NetworkSpec {
        unknown_unicast: UnknownUnicast::Flood,
        ..spec
    })
}

fn domain() -> Spec {
    let description = "red".to_owned().try_into().unwrap();
    Spec::Domain(DomainSpec {
        description,
        default_policy: DefaultPolicy::Allow,
        ..DomainSpec::default()
    })
}

#[test]
fn what_is_written_is_read() {
    for spec in all() {
        assert_eq!(Spec::decode(spec.kind(), &spec.encode()), Ok(spec));
    }
}

#[test]
fn the_bytes_of_each_version_stay() {
    let hex = |spec: &Spec| {
        let body = spec.encode();
        let bytes: String = body.bytes.iter().map(|b| format!("{b:02x}")).collect();
        format!("{} {bytes}", body.version)
    };
    assert_eq!(hex(&domain()), "1 0372656401");
    assert_eq!(
        hex(&network()),
        "1 020b31302e302e302e302f323409666430303a3a2f3634014d00"
    );
    assert_eq!(
        hex(&flooding()),
        "2 020b31302e302e302e302f323409666430303a3a2f3634014d0001"
    );
    assert_eq!(hex(&geneve()), "2 000001");
    assert_eq!(
        hex(&appliance()),
        "2 036c616e0102000000000102000a00000501fd00000000000000000000000000000501036170700377656201046661623103000a00000920000a0100001001fd01000000000000000000000000000040"
    );
    assert_eq!(
        hex(&router()),
        "1 0201610162020000000000000001000a00000901fd0000000000000000000000000000000801"
    );
    assert_eq!(
        hex(&policy()),
        "1 0701036170700377656204016100020178017901620101017a01630201640303000001025050c03ea746000201010004010801000470696e6701010102000a0000000801fd00000000000000000000000000000008052f00030001000000020000000003000001000000"
    );
    assert_eq!(
        hex(&endpoint()),
        "1 036c616e0102000000000102000a00000501fd000000000000000000000000000005010361707003776562010466616231"
    );
}

#[test]
fn the_largest_objects_fit_into_a_record() {
    let label = |n: usize| format!("{n:03}{}", "x".repeat(60));
    let labels: BTreeMap<String, String> = (0..32).map(|n| (label(n), label(n))).collect();
    let hosts: Vec<Label> = (0..64).map(|n| label(n).parse().unwrap()).collect();
    let addresses: Vec<IpAddr> = (0..16u128)
        .map(|n| IpAddr::V6(((0xfd << 120) | (n + 2)).into()))
        .collect();
    let allowed: Vec<Source> = (0..64).map(|n| format!("fd00:{n:x}::/64").parse().unwrap()).collect();
    let endpoint = EndpointSpec {
        network: label(0).parse().unwrap(),
        mac: Some("02:00:00:00:00:01".parse().unwrap()),
        addresses: addresses.try_into().unwrap(),
        labels: labels.try_into().unwrap(),
        allowed_addresses: allowed.try_into().unwrap(),
        allowed_hosts: hosts.try_into().unwrap(),
    };
    let description = "\u{10000}".repeat(256).try_into().unwrap();
    let domain = DomainSpec {
        description,
        ..DomainSpec::default()
    };
    // What a record holds besides its body is under a kilobyte, but for the causal context.
    for spec in [Spec::Endpoint(endpoint), Spec::Domain(domain)] {
        assert!(
            spec.encode().bytes.len() < membership::record::RECORD_MAX - 4096,
            "{:?}",
            spec.encode()
        );
    }
}

#[test]
fn what_is_cut_damaged_longer_or_newer_is_refused() {
    for spec in all() {
        let body = spec.encode();
        for length in 0..body.bytes.len() {
            let cut = Body {
                version: body.version,
                bytes: body.bytes.slice(..length),
            };
            assert!(Spec::decode(spec.kind(), &cut).is_err(), "{} bytes of {spec:?}", length);
        }
        let longer = Body {
            version: body.version,
            bytes: [&body.bytes[..], &[0]].concat().into(),
        };
        assert_eq!(Spec::decode(spec.kind(), &longer), Err(BodyError::Trailing(1)));
        let newer = Body { version: 3, ..body };
        assert_eq!(Spec::decode(spec.kind(), &newer), Err(BodyError::Version(3)));
    }
}

#[test]
fn an_invalid_object_cannot_be_read() {
    let damaged = |bytes: Vec<u8>| Body {
        version: 1,
        bytes: Bytes::from(bytes),
    };
    let no_subnets = damaged(vec![0, 0, 0]);
    assert_eq!(
        Spec::decode(Kind::Network, &no_subnets),
        Err(BodyError::Spec(SpecError::NoSubnet))
    );
    let group_mac = postcard::to_stdvec(&EndpointV1 {
        network: "lan".parse().unwrap(),
        mac: Some([0xff; 6]),
        addresses: vec![],
        labels: BTreeMap::new(),
        allowed_hosts: vec![],
    });
    let error = Spec::decode(Kind::Endpoint, &damaged(group_mac.unwrap()));
    assert!(
        matches!(error, Err(BodyError::Value(ValueError::MacNotUnicast(_)))),
        "{error:?}"
    );
}

#[test]
fn records_of_the_release_before_are_read() {
    // As version 1 of each kind was written before there was a version 2.
    let body = |hex: &str| Body {
        version: 1,
        bytes: (0..hex.len() / 2)
            .map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap())
            .collect(),
    };
    assert_eq!(Spec::decode(Kind::Domain, &body("0372656401")), Ok(domain()));
    let network_body = body("020b31302e302e302e302f323409666430303a3a2f3634014d00");
    assert_eq!(Spec::decode(Kind::Network, &network_body), Ok(network()));
    let endpoint_body =
        body("036c616e0102000000000102000a00000501fd000000000000000000000000000005010361707003776562010466616231");
    assert_eq!(Spec::decode(Kind::Endpoint, &endpoint_body), Ok(endpoint()));
}

#[test]
fn an_invalid_policy_or_router_cannot_be_read() {
    let body = |bytes: &[u8]| Body {
        version: 1,
        bytes: Bytes::copy_from_slice(bytes),
    };
    // Priority 0; a selector with `a NotIn []`; no rules.
    let everybody = body(&[0, 0, 1, 1, b'a', 1, 0, 0, 0]);
    let error = Spec::decode(Kind::SecurityPolicy, &everybody).unwrap_err();
    assert_eq!(error.to_string(), "NotIn needs at least one value");
    // Priority 0; an empty selector; TCP to 90-80.
    let ports = body(&[0, 0, 0, 1, 0, 0, 1, 1, 90, 80, 0, 0]);
    let error = Spec::decode(Kind::SecurityPolicy, &ports).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a port is a number from 1 to 65535 or a range as 8000-8999, not \"90-80\""
    );
    // Network a; 10.0.0.0/33 to nowhere.
    let route = body(&[1, 1, b'a', 1, 0, 10, 0, 0, 0, 33, 1]);
    assert!(matches!(Spec::decode(Kind::Router, &route), Err(BodyError::Value(_))));
    let none = Spec::decode(Kind::Router, &body(&[0, 0])).unwrap_err();
    assert_eq!(none.to_string(), "a router needs at least one network");
}
