//! Who is connected, and how much each address asks: nobody keeps the others out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::task::AbortHandle;

use crate::limits::{
    MOST_CONNECTIONS, MOST_CONNECTIONS_A_PEER, MOST_COUNTED_PEERS, MOST_REQUESTS_A_SECOND, MOST_REQUESTS_AT_ONCE,
};

struct Member {
    peer: IpAddr,
    /// What ends it.
    task: Option<AbortHandle>,
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

    /// Takes a connection in where there is room, and `begin`s the task that attends to it. One that rests, or whose request does not come,
    /// makes room: of the address that has the most, the one that has rested longest.
    pub(super) fn join(self: &Arc<Self>, peer: IpAddr, begin: impl FnOnce(Place) -> AbortHandle) {
        let Some(number) = self.inside().join(peer) else { return };
        let task = begin(Place { crowd: self.clone(), number, peer });
        match self.inside().members.get_mut(&number) {
            Some(member) => member.task = Some(task),
            None => task.abort(),
        }
    }

    /// Ends all connections, and takes no other.
    pub(super) fn close(&self) {
        let mut inside = self.inside();
        inside.is_closed = true;
        inside.members.values().filter_map(|member| member.task.as_ref()).for_each(AbortHandle::abort);
    }
}

/// A connection's place among all, for as long as this lives.
pub(super) struct Place {
    crowd: Arc<Crowd>,
    number: u64,
    peer: IpAddr,
}

impl Place {
    /// A request has come whole; whether its address may make it now.
    pub(super) fn asks(&self) -> bool {
        let mut inside = self.crowd.inside();
        inside.rest(self.number, None);
        inside.allows(self.peer, Instant::now())
    }

    /// It was answered.
    pub(super) fn rests(&self) {
        self.crowd.inside().rest(self.number, Some(Instant::now()));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.inside().members.remove(&self.number);
    }
}

impl Inside {
    fn join(&mut self, peer: IpAddr) -> Option<u64> {
        let of_peer = self.members.values().filter(|member| member.peer == peer).count();
        if self.is_closed {
            return None;
        }
        if of_peer >= MOST_CONNECTIONS_A_PEER {
            self.make_room(|member| member.peer == peer)?;
        } else if self.members.len() >= MOST_CONNECTIONS {
            let mut counts: HashMap<IpAddr, usize> = HashMap::new();
            self.members.values().for_each(|member| *counts.entry(member.peer).or_default() += 1);
            let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(peer, _)| peer)?;
            self.make_room(|member| member.peer == most)?;
        }
        let number = self.next;
        self.next += 1;
        self.members.insert(number, Member { peer, task: None, resting: Some(Instant::now()) });
        Some(number)
    }

    fn rest(&mut self, number: u64, since: Option<Instant>) {
        self.members.get_mut(&number).into_iter().for_each(|member| member.resting = since);
    }

    fn make_room(&mut self, of: impl Fn(&Member) -> bool) -> Option<()> {
        let resting = self.members.iter().filter(|(_, member)| of(member));
        let resting = resting.filter_map(|(number, member)| Some((member.resting?, *number)));
        let (_, number) = resting.min()?;
        self.members.remove(&number)?.task.iter().for_each(AbortHandle::abort);
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
    use std::net::Ipv4Addr;
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
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (crowd, peer) = (Arc::<Crowd>::default(), IpAddr::V4(Ipv4Addr::LOCALHOST));
            let (to, places) = std::sync::mpsc::channel();
            let join = |peer| {
                let begin = |place| {
                    to.send(place).unwrap();
                    tokio::spawn(std::future::pending::<()>()).abort_handle()
                };
                crowd.join(peer, begin);
                places.try_recv().ok()
            };
            let first: Vec<Place> = (0..MOST_CONNECTIONS_A_PEER).map(|_| join(peer).unwrap()).collect();
            first[1..].iter().for_each(|place| assert!(place.asks()));
            let one_more = join(peer).unwrap();
            assert!(one_more.asks());
            assert!(!crowd.inside().members.contains_key(&first[0].number), "it had asked for nothing");
            assert!(join(peer).is_none(), "all others are being answered");
            let other = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
            assert!(join(other).is_some(), "one address does not keep others out");
            drop(first);
            assert_eq!(crowd.inside().members.len(), 1, "who has gone takes no room");
        });
    }
}
