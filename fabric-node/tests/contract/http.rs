//! The routes as whoever speaks HTTP by hand sees them.

use super::*;

#[tokio::test]
async fn the_routes_answer_whoever_speaks_http() {
    let daemon = Daemon::start().await;
    let codes = [
        ("GET /v1/nothing HTTP/1.1", "", "404", "no_such_resource"),
        ("PUT /v1/status HTTP/1.1", "", "405", "no_such_resource"),
        ("GET /v1/domains/red/netwrks HTTP/1.1", "", "404", "not_found"),
        ("GET /v1/domains/Red/networks HTTP/1.1", "", "400", "bad_request"),
        ("GET /v1/domains/%ff/networks HTTP/1.1", "", "400", "bad_request"),
        ("POST /v1/apply HTTP/1.1", "{\"manifest\":1}", "400", "bad_request"),
        (
            "POST /v1/endpoints/red/a/attach HTTP/1.1",
            "{\"netnz\":\"x\"}",
            "400",
            "bad_request",
        ),
        (
            "DELETE /v1/domains/red/domain/red?cascad=1 HTTP/1.1",
            "",
            "400",
            "bad_request",
        ),
        ("DELETE /v1/domains/red/domain/red HTTP/1.1", "", "409", "refused"),
        (
            "GET /v1/domains/red/history?limit=1001 HTTP/1.1",
            "",
            "400",
            "bad_request",
        ),
        (
            "GET /v1/domains/red/history?kind=netwrk HTTP/1.1",
            "",
            "404",
            "not_found",
        ),
        (
            "GET /v1/domains/red/diff?at=yesterday HTTP/1.1",
            "",
            "400",
            "bad_request",
        ),
        ("POST /v1/domains/red/rollback HTTP/1.1", "", "400", "bad_request"),
        (
            "POST /v1/domains/red/net/lan/resolve HTTP/1.1",
            "{\"take\": \"v1\"}",
            "400",
            "bad_request",
        ),
        ("GET /v1/conflicts?domian=red HTTP/1.1", "", "400", "bad_request"),
        ("POST /v1/tokens HTTP/1.1", "", "503", "try_again"),
    ];
    for (head, body, status, code) in codes {
        let (line, answer) = daemon.raw(head, body).await;
        assert!(line.contains(status), "{head}: {line}");
        assert_eq!(answer["code"], code, "{head}: {answer}");
        assert!(
            answer["message"].is_string() && answer["details"].is_array(),
            "{head}: {answer}"
        );
    }
    let (line, _) = daemon
        .raw(
            "POST /v1/apply HTTP/1.1\r\ncontent-type: application/yaml",
            "kind: Domain",
        )
        .await;
    assert!(line.contains("200"), "{line}");
    assert!(daemon.asked().iter().any(|asked| asked.contains("[\"kind: Domain\"]")));
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let daemon = Daemon::start().await;
    let mut stream = UnixStream::connect(daemon.dir.path().join("api.sock"))
        .await
        .expect("connected");
    let length = fabric_node::api::BODY_MAX + 1;
    let head = format!("POST /v1/apply HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    assert!(
        answer.starts_with("HTTP/1.1 413") && answer.contains("\"too_large\""),
        "{answer}"
    );
}

#[tokio::test]
async fn slow_clients_hold_up_only_themselves() {
    let daemon = Daemon::start().await;
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut stream = UnixStream::connect(daemon.dir.path().join("api.sock"))
            .await
            .expect("connected");
        let head = "POST /v1/apply HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf";
        stream.write_all(head.as_bytes()).await.expect("sent");
        slow.push(stream);
    }
    let done = daemon.ctl("peers").await;
    assert_eq!(done.code, 0, "{done:?}");
}

#[tokio::test(start_paused = true)]
async fn idle_and_half_asked_connections_end() {
    let daemon = Daemon::start().await;
    let mut idle = Vec::new();
    for number in 0..300 {
        let mut stream = UnixStream::connect(daemon.dir.path().join("api.sock"))
            .await
            .expect("connected");
        let head = [
            "",
            "GET /v1/status HTTP/1.1\r\nhost",
            "GET /v1/kinds HTTP/1.1\r\nhost: x\r\n\r\n",
        ][number % 3];
        stream.write_all(head.as_bytes()).await.expect("sent");
        idle.push(stream);
    }
    let done = daemon.ctl("peers").await;
    assert_eq!(done.code, 0, "{done:?}");
    for mut stream in idle {
        let ended = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "an idle connection is kept");
    }
}

#[tokio::test]
async fn the_openapi_document_declares_what_stands_in_each_path() {
    let daemon = Daemon::start().await;
    let (_, document) = daemon.raw("GET /v1/openapi.json HTTP/1.1", "").await;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let in_path: Vec<&str> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        for (method, operation) in methods.as_object().expect("methods") {
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let declared: Vec<&str> = parameters
                .iter()
                .filter(|parameter| parameter["in"] == "path")
                .filter_map(|parameter| parameter["name"].as_str())
                .collect();
            assert_eq!(declared, in_path, "{method} {path}");
            let of_query = parameters.iter().filter(|parameter| parameter["in"] == "query");
            assert!(of_query.clone().all(|it| it["required"] != true), "{method} {path}");
            // What is documented is served: a path that is not there has another answer than a wrong value in it.
            let asked = path.replace(['{', '}'], "");
            let (_, answer) = daemon
                .raw(&format!("{} {asked} HTTP/1.1", method.to_uppercase()), "")
                .await;
            assert_ne!(answer["code"], "no_such_resource", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_openapi_document_names_every_route() {
    let daemon = Daemon::start().await;
    let (_, document) = daemon.raw("GET /v1/openapi.json HTTP/1.1", "").await;
    let paths: Vec<&String> = document["paths"].as_object().expect("paths").keys().collect();
    for path in [
        "/v1/status",
        "/v1/apply",
        "/v1/domains/{domain}/{kind}/{name}",
        "/v1/endpoints/{domain}/{name}/attach",
    ] {
        assert!(paths.iter().any(|known| *known == path), "{path} is not in {paths:?}");
    }
    let refusal = &document["components"]["schemas"]["ApiError"]["properties"];
    assert!(refusal["details"].is_object(), "{document}");
}
