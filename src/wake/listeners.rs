//! Who listens on a TCP port: asked of the kernel by netlink, for listening sockets alone (`sock_diag(7)`).
//!
//! Where the kernel does not answer that, `/proc/net/tcp` tells the same; but whoever reads it to the end of the listening
//! sockets has the kernel walk its whole table of connections, which takes it milliseconds.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

/// The state of a listening socket, in numbers and as `/proc` writes it.
const LISTEN: (u32, &str) = (10, "0A");

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`
const REQUEST: u16 = 0x301;
const IPPROTO_TCP: u8 = 6;

/// The length of a message's header, and that of one that tells of a socket.
const HEADER: usize = 16;
const SOCKET: usize = HEADER + 72;
/// Where the number of the socket is in that: it ends it.
const INODE: usize = SOCKET - 4;

/// So many parts of an answer are read: each holds some hundred sockets.
const PARTS: usize = 1000;

/// The numbers of the sockets that listen on a port.
pub(super) fn listening(port: u16) -> Vec<u64> {
    let families = [AddressFamily::INET, AddressFamily::INET6].into_iter();
    let Ok(found) = families.map(|family| ask(family, port)).collect::<io::Result<Vec<_>>>() else {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
        return tables.into_iter().flat_map(|table| read(Path::new(table), port)).collect();
    };
    found.concat()
}

fn ask(family: AddressFamily, port: u16) -> io::Result<Vec<u64>> {
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?;
    send(&kernel, &request(family, port), SendFlags::empty())?;
    let mut found = Vec::new();
    let mut answer = vec![0; 32 * 1024];
    for _ in 0..PARTS {
        let (length, _) = recv(&kernel, &mut answer[..], RecvFlags::empty())?;
        if take(&answer[..length], port, &mut found)? {
            return Ok(found);
        }
    }
    Err(io::Error::other("an answer without an end"))
}

/// A request for the sockets of one family that listen on a port: a header, and an `inet_diag_req_v2`.
fn request(family: AddressFamily, port: u16) -> Vec<u8> {
    let length: u32 = 72;
    let mut bytes = Vec::with_capacity(72);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST.to_ne_bytes());
    bytes.extend([0; 8]); // a sequence number and a sender that nobody needs
    bytes.push(u8::try_from(family.as_raw()).unwrap_or_default());
    bytes.extend([IPPROTO_TCP, 0, 0]);
    bytes.extend((1_u32 << LISTEN.0).to_ne_bytes());
    bytes.extend(port.to_be_bytes());
    bytes.resize(72, 0);
    bytes
}

/// Takes the sockets of one part of an answer. Tells whether it was the last.
fn take(mut rest: &[u8], port: u16, found: &mut Vec<u64>) -> io::Result<bool> {
    let cut = || io::Error::new(io::ErrorKind::InvalidData, "an answer that is cut");
    while !rest.is_empty() {
        let length = number(rest, 0).and_then(|length| usize::try_from(length).ok()).ok_or_else(cut)?;
        let kind = rest.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]])).ok_or_else(cut)?;
        let message = rest.get(..length).filter(|message| message.len() >= HEADER).ok_or_else(cut)?;
        match kind {
            NLMSG_DONE => return Ok(true),
            SOCK_DIAG_BY_FAMILY => {
                let its = message.get(HEADER + 4..HEADER + 6).map(|port| u16::from_be_bytes([port[0], port[1]]));
                let inode = number(message, INODE).ok_or_else(cut)?;
                if its == Some(port) {
                    found.push(inode.into());
                }
            }
            _ => return Err(io::Error::other("the kernel does not tell of sockets")),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// The same from a table in `/proc`. The kernel lists the listening ones first: the thousands of connections behind them
/// are not taken.
fn read(table: &Path, port: u16) -> Vec<u64> {
    let Ok(file) = File::open(table) else { return Vec::new() };
    let lines = BufReader::new(file).lines().map_while(Result::ok).skip(1);
    lines.map_while(|line| socket_of(&line)).filter(|(its, _)| *its == port).map(|(_, inode)| inode).collect()
}

/// The port and the number of the listening socket of a line; `None` for one of another state.
fn socket_of(line: &str) -> Option<(u16, u64)> {
    let mut columns = line.split_ascii_whitespace();
    let (_, port) = columns.nth(1)?.rsplit_once(':')?;
    let _peer = columns.next()?;
    columns.next().filter(|state| *state == LISTEN.1)?;
    Some((u16::from_str_radix(port, 16).ok()?, columns.nth(5)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_port_has_its_listeners_of_both_families_and_no_connection_is_one() {
        let four = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = four.local_addr().unwrap().port();
        let _connection = (TcpStream::connect(("127.0.0.1", port)).unwrap(), four.accept().unwrap());
        let inode = |listener: &TcpListener| rustix::fs::fstat(listener).unwrap().st_ino;
        let mut all = vec![inode(&four)];
        let six = TcpListener::bind(("::1", port)); // where there is version 6
        all.extend(six.as_ref().ok().map(inode));
        assert_eq!(listening(port), all);
        drop((four, six));
        assert!(listening(port).is_empty());
    }

    #[test]
    fn the_table_in_proc_tells_the_same() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(read(Path::new("/proc/net/tcp"), port), listening(port));
    }

    #[test]
    fn only_listening_sockets_count() {
        let line = |state: &str| {
            format!(
                "   0: 00000000:04BE 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 12345 1 0000000000000000 100 0 0 10 0"
            )
        };
        assert_eq!(socket_of(&line("0A")), Some((1214, 12345)));
        assert_eq!(socket_of(&line("01")), None);
        let six = "   1: 00000000000000000000000000000000:04BE 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 777 1 0 100 0 0 10 0";
        assert_eq!(socket_of(six), Some((1214, 777)));
        assert_eq!(socket_of("nonsense"), None);
    }

    #[test]
    fn an_answer_that_is_cut_or_of_another_kind_is_no_answer() {
        let mut answer = request(AddressFamily::INET, 1214);
        answer.resize(SOCKET, 7);
        answer[..4].copy_from_slice(&88_u32.to_ne_bytes());
        let mut found = Vec::new();
        assert!(!take(&[&answer[..], &answer[..]].concat(), 0x0606, &mut found).unwrap());
        for length in 1..answer.len() {
            assert!(take(&answer[..length], 1, &mut found).is_err(), "{length}");
        }
        answer[4] = 2; // NLMSG_ERROR
        assert!(take(&answer, 1, &mut found).is_err());
        answer[..4].copy_from_slice(&3_u32.to_ne_bytes());
        assert!(take(&answer, 1, &mut found).is_err());
        assert!(found.is_empty());
    }
}
