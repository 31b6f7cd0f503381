//! Who is connected, and how much each address asks: nobody keeps the others out.

use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::limits::{
    MOST_CONNECTIONS, MOST_CONNECTIONS_A_PEER, MOST_COUNTED_PEERS, MOST_REQUESTS_A_SECOND, MOST_REQUESTS_AT_ONCE,
};

struct Member {
    peer: IpAddr,
    stream: TcpStream,
    /// Since when it has not asked for anything; `None` while it is answered.
    resting: Option<Instant>,
}

/// Requests that an address may still make at once.
struct Allowance {
    left: f64,
    since: Instant,
}

#[derive(Default)]
struct Inside {
    members: HashMap<u64, Member>,
    next: u64,
    allowances: HashMap<IpAddr, Allowance>,
    is_closed: bool,
}

/// All connections of a server.
#[derive(Default)]
pub(super) struct Crowd(Mutex<Inside>);

impl Crowd {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection in, and its number; `None` where there is no room. One that rests, or whose request does not come, makes room:
    /// of the address that has the most, the one that has rested longest.
    pub(super) fn join(&self, stream: &TcpStream, peer: IpAddr) -> Option<u64> {
        let mut inside = self.inside();
        let of_peer = inside.members.values().filter(|member| member.peer == peer).count();
        if inside.is_closed {
            return None;
        }
        if of_peer >= MOST_CONNECTIONS_A_PEER {
            inside.make_room(|member| member.peer == peer)?;
        } else if inside.members.len() >= MOST_CONNECTIONS {
            let mut counts: HashMap<IpAddr, usize> = HashMap::new();
            inside.members.values().for_each(|member| *counts.entry(member.peer).or_default() += 1);
            let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(peer, _)| peer)?;
            inside.make_room(|member| member.peer == most)?;
        }
        let stream = stream.try_clone().ok()?;
        let number = inside.next;
        inside.next += 1;
        inside.members.insert(number, Member { peer, stream, resting: Some(Instant::now()) });
        Some(number)
    }

    pub(super) fn leave(&self, number: u64) {
        self.inside().members.remove(&number);
    }

    /// A request has come whole; whether its address may make it now.
    pub(super) fn asks(&self, number: u64, peer: IpAddr) -> bool {
        let mut inside = self.inside();
        inside.members.get_mut(&number).into_iter().for_each(|member| member.resting = None);
        inside.allows(peer, Instant::now())
    }

    /// It was answered.
    pub(super) fn rests(&self, number: u64) {
        self.inside().members.get_mut(&number).into_iter().for_each(|member| member.resting = Some(Instant::now()));
    }

    /// Ends all connections, and takes no other.
    pub(super) fn close(&self) {
        let mut inside = self.inside();
        inside.is_closed = true;
        inside.members.values().for_each(|member| drop(member.stream.shutdown(Shutdown::Both)));
    }
}

impl Inside {
    fn make_room(&mut self, of: impl Fn(&Member) -> bool) -> Option<()> {
        let resting = self.members.iter().filter(|(_, member)| of(member));
        let resting = resting.filter_map(|(number, member)| Some((member.resting?, *number)));
        let (_, number) = resting.min()?;
        let member = self.members.remove(&number)?;
        let _ = member.stream.shutdown(Shutdown::Both);
        Some(())
    }

    fn allows(&mut self, peer: IpAddr, now: Instant) -> bool {
        if self.allowances.len() >= MOST_COUNTED_PEERS && !self.allowances.contains_key(&peer) {
            let oldest = self.allowances.iter().min_by_key(|(_, allowance)| allowance.since).map(|(peer, _)| *peer);
            if let Some(oldest) = oldest {
                self.allowances.remove(&oldest);
            }
        }
        let allowance = self.allowances.entry(peer).or_insert(Allowance { left: MOST_REQUESTS_AT_ONCE, since: now });
        let earned = now.saturating_duration_since(allowance.since).as_secs_f64() * MOST_REQUESTS_A_SECOND;
        *allowance = Allowance { left: (allowance.left + earned).min(MOST_REQUESTS_AT_ONCE), since: now };
        let may = allowance.left >= 1.0;
        allowance.left -= f64::from(u8::from(may));
        may
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_address_is_answered_as_often_as_its_allowance_grows() {
        let (mut inside, now) = (Inside::default(), Instant::now());
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let allowed = |inside: &mut Inside, at| (0..2000).filter(|_| inside.allows(peer, at)).count();
        assert_eq!(allowed(&mut inside, now), 1500);
        assert_eq!(allowed(&mut inside, now + Duration::from_secs(1)), 300);
        assert!(inside.allows(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), now), "others are not kept out");
        for n in 0..1000u32 {
            assert!(inside.allows(IpAddr::V4(Ipv4Addr::from(n)), now));
        }
        assert!(inside.allowances.len() <= MOST_COUNTED_PEERS);
    }

    #[test]
    fn who_rests_makes_room_and_who_is_answered_stays() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (crowd, peer) = (Crowd::default(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        let streams: Vec<TcpStream> = (0..MOST_CONNECTIONS_A_PEER).map(|_| connect()).collect();
        let numbers: Vec<u64> = streams.iter().map(|stream| crowd.join(stream, peer).unwrap()).collect();
        numbers[1..].iter().for_each(|number| assert!(crowd.asks(*number, peer)));
        let one_more = connect();
        assert!(crowd.join(&one_more, peer).is_some_and(|number| crowd.asks(number, peer)));
        assert!(!crowd.inside().members.contains_key(&numbers[0]), "it had asked for nothing");
        assert_eq!(crowd.join(&connect(), peer), None, "all others are being answered");
        let other = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        assert!(crowd.join(&connect(), other).is_some(), "one address does not keep others out");
    }
}
