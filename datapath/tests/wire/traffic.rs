//! What real stacks exchange, and that it arrives as it was sent.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::identity::Identity;
use crate::namespace::{DEADLINE, Namespace};

/// What a flow of TCP carries: enough for many super-packets.
pub(crate) const STREAM: usize = 2 << 20;

/// Sends a datagram of `size` bytes and gets it back.
pub(crate) fn echoes(client: &Namespace, server: &Namespace, address: IpAddr, size: usize) {
    echo_sizes(client, server, address, [size]);
}

/// Sends a datagram of each size and gets each back.
pub(crate) fn echo_sizes(
    client: &Namespace,
    server: &Namespace,
    address: IpAddr,
    sizes: impl IntoIterator<Item = usize> + Send,
) {
    let socket = server.run(|| UdpSocket::bind(SocketAddr::new(address, 0)).expect("the address is there"));
    let to = socket.local_addr().expect("it is bound");
    socket.set_read_timeout(Some(DEADLINE)).expect("not zero");
    let sizes: Vec<usize> = sizes.into_iter().collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 65536];
            for size in &sizes {
                let (length, from) = socket
                    .recv_from(&mut buffer)
                    .unwrap_or_else(|error| panic!("{address}: a question of {size} bytes: {error}"));
                socket.send_to(&buffer[..length], from).expect("there is a way back");
            }
        });
        client.run(|| {
            let any: IpAddr = if address.is_ipv4() {
                [0; 4].into()
            } else {
                [0; 16].into()
            };
            let socket = UdpSocket::bind(SocketAddr::new(any, 0)).expect("ports are free");
            socket.set_read_timeout(Some(DEADLINE)).expect("not zero");
            let mut answer = vec![0; 65536];
            for size in &sizes {
                let question: Vec<u8> = (0..*size).map(|byte| (byte ^ size) as u8).collect();
                socket.send_to(&question, to).expect("there is a way");
                let length = socket
                    .recv(&mut answer)
                    .unwrap_or_else(|error| panic!("{address}: an answer of {size} bytes: {error}"));
                assert!(
                    answer[..length] == question,
                    "{address}: {size} bytes came back as others"
                );
            }
        });
    });
}

/// Sends a stream one way and compares all of it.
pub(crate) fn streams(client: &Namespace, server: &Namespace, address: IpAddr) {
    streams_bytes(client, server, address, STREAM);
}

/// Sends a stream of so many bytes and compares all of it.
pub(crate) fn streams_bytes(client: &Namespace, server: &Namespace, address: IpAddr, bytes: usize) {
    let listener = server.run(|| TcpListener::bind(SocketAddr::new(address, 0)).expect("the address is there"));
    let to = listener.local_addr().expect("it is bound");
    let sent: Vec<u8> = (0..bytes).map(|byte| (byte >> 16 ^ byte >> 8 ^ byte) as u8).collect();
    thread::scope(|scope| {
        let receiver = scope.spawn(|| received(&listener));
        client.run(|| {
            let mut stream = TcpStream::connect_timeout(&to, DEADLINE).expect("there is a way");
            stream.set_write_timeout(Some(DEADLINE)).expect("not zero");
            stream.write_all(&sent).expect("the stream leaves");
        });
        let received = receiver.join().expect("it does not panic");
        assert_eq!(received.len(), sent.len(), "{address}: as many bytes");
        assert!(received == sent, "{address}: the stream is what was sent");
    });
}

/// All of the next connection's stream.
pub(crate) fn received(listener: &TcpListener) -> Vec<u8> {
    let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(DEADLINE).expect("a few seconds");
    assert_eq!(poll(&mut ready, timeout), Ok(1), "the connection arrives");
    let (mut stream, _) = listener.accept().expect("a connection is there");
    stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("the stream arrives");
    received
}

/// Datagrams of all sorts and a stream, to each address of `identity`.
pub(crate) fn exchange(what: &str, client: &Namespace, server: &Namespace, identity: Identity) {
    for address in identity.addresses() {
        println!("{what}: {address}");
        // The shortest packets are those that a kernel which cannot be told the family must pad; the longest are
        // fragments.
        echo_sizes(client, server, address, [100, 1, 5000]);
        streams(client, server, address);
    }
}
