//! A time server and the path to it: when it is asked, how long an exchange takes and how far it is off.
//!
//! One exchange takes f seconds out and b seconds back. Its measured offset is wrong by (f - b) / 2, by the server's own
//! error and by the jitter of the two counter readings; its delay is f + b. With f, b >= 0 and an honest server the error
//! never exceeds delay / 2 + root distance (RFC 5905, section 11.2), which is what the hard bound rests on.
//!
//! Either way is a base plus queueing. Queueing is gamma-like (a sum of exponentials), grows with the congestion of the hour
//! and now and then falls into a Pareto tail. A second, longer route is taken for spells. Routes change for good now and then,
//! one direction at a time. Exchanges are lost one by one and in outages.
//!
//! Sources: gamma-shaped delays over a base after Mukherjee (J. Internetworking 5, 1994); heavy tails, route changes that
//! persist and asymmetry after Paxson (IEEE/ACM ToN 5(5), 1997, and 7(3), 1999); congestion by the hour and the asymmetry
//! of public servers after Novick and Lombardi (PTTI 2015); losses in bursts after Gilbert (1960).

use std::f64::consts::TAU;

use rand::RngExt;

use super::Random;
use super::oscillator::normal;

const DAY: f64 = 86_400.0;

/// One direction of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Direction {
    /// Time that every packet takes, in s.
    pub base: f64,
    /// Mean queueing, in s.
    pub queue: f64,
}

/// A server and the path to it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ServerParams {
    /// To the server.
    pub forward: Direction,
    /// From the server.
    pub backward: Direction,
    /// How many exponential queues in a row, 1 to 4: 1 has the fullest head, 4 a clear mode.
    pub queues: u8,
    /// Share of packets in the heavy tail.
    pub tail: f64,
    /// Scale of the tail, in s.
    pub tail_scale: f64,
    /// Exponent of the tail; variance is infinite up to 2.
    pub tail_exponent: f64,
    /// How much the queueing grows in the busiest hour (0: not at all).
    pub congestion: f64,
    /// The busiest time of the day, in s after the start of the world.
    pub congestion_peak: f64,
    /// Share of the time on the second route.
    pub detour: f64,
    /// What it adds to the way back (or, if negative, its magnitude to the way out), in s.
    pub detour_delay: f64,
    /// Mean length of a spell on one route, in s.
    pub detour_spell: f64,
    /// Changes of the route for good, a day.
    pub route_changes_per_day: f64,
    /// Their mean magnitude, in s, in one direction.
    pub route_change: f64,
    /// Share of exchanges lost one by one.
    pub loss: f64,
    /// Outages a day.
    pub outages_per_day: f64,
    /// Their mean length, in s.
    pub outage: f64,
    /// Time between questions, in s.
    pub poll: f64,
    /// Relative standard deviation of that time.
    pub poll_jitter: f64,
    /// Questions asked 2 s apart at the start.
    pub burst: u32,
    /// When the first question is asked, in s.
    pub first_poll: f64,
    /// The server's claimed error budget (root delay / 2 + root dispersion), in s.
    pub root_distance: f64,
    /// Standard deviation of its own error, in s; an honest one never exceeds the claim.
    pub wobble: f64,
    /// What it does besides telling the truth.
    pub conduct: Conduct,
}

impl ServerParams {
    /// Half the difference between the ways out and back, in s: it shifts every measurement alike, so nothing that only
    /// sees exchanges with this server can tell it from the offset itself.
    pub fn unseen(&self) -> f64 {
        (self.forward.base - self.backward.base) / 2.0
    }
}

/// What a server does. Only [`Conduct::Honest`] keeps to the claimed budget.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Conduct {
    /// Tells the truth within its budget.
    #[default]
    Honest,
    /// Wrong by so many seconds.
    Wrong(f64),
    /// Wrong by so many seconds more every second from an instant on.
    Drifting {
        /// Since when, in s.
        from: f64,
        /// s/s.
        rate: f64,
    },
    /// Wrong by so many seconds from an instant on.
    Stepping {
        /// Since when, in s.
        from: f64,
        /// s.
        by: f64,
    },
    /// Says nothing between two instants, in s.
    Silent {
        /// Since when.
        from: f64,
        /// Until when.
        until: f64,
    },
}

/// What one exchange measured, the true offset left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exchange {
    /// Measured minus true offset, in s.
    pub error: f64,
    /// Round-trip delay, in s.
    pub delay: f64,
    /// The server's claim, in s.
    pub root_distance: f64,
}

/// A server under way.
#[derive(Clone, Debug)]
pub struct Server {
    params: ServerParams,
    random: Random,
    asked: u32,
    next_poll: f64,
    forward: f64,
    backward: f64,
    last: f64,
    on_detour: bool,
    outage_until: f64,
    wobble: f64,
}

impl Server {
    /// Before the first question.
    pub fn new(params: ServerParams, random: Random) -> Self {
        Self {
            params,
            random,
            asked: 0,
            next_poll: params.first_poll,
            forward: params.forward.base,
            backward: params.backward.base,
            last: 0.0,
            on_detour: false,
            outage_until: 0.0,
            wobble: 0.0,
        }
    }

    /// When the next question is due, in s.
    pub fn next_poll(&self) -> f64 {
        self.next_poll
    }

    /// Asks at `time`, and schedules the next question. `None`: no answer came. `jitter` is the error of the two counter
    /// readings, in s.
    pub fn exchange(&mut self, time: f64, jitter: [f64; 2]) -> Option<Exchange> {
        let p = self.params;
        self.schedule(time);
        self.wander(time - self.last);
        self.last = time;
        // Drawn before anything can end the exchange, so that a loss shifts no later draw by more than itself.
        let lost = self.random.random::<f64>() < p.loss;
        let busy = 1.0 + p.congestion * 0.5 * (1.0 + (TAU * (time - p.congestion_peak) / DAY).cos());
        let forward = self.forward + self.queueing(p.forward.queue * busy);
        let backward = self.backward + self.queueing(p.backward.queue * busy);
        if lost || time < self.outage_until {
            return None;
        }
        let detour = if self.on_detour { p.detour_delay } else { 0.0 };
        let forward = forward + (-detour).max(0.0);
        let backward = backward + detour.max(0.0);
        // A jitter longer than the way itself would be a packet that arrives before it was sent.
        let [sent, received] = [jitter[0].clamp(-forward, forward), jitter[1].clamp(-backward, backward)];
        let own = self.wobble.clamp(-p.root_distance, p.root_distance);
        let lie = match p.conduct {
            Conduct::Honest => 0.0,
            Conduct::Wrong(by) => by,
            Conduct::Drifting { from, rate } => rate * (time - from).max(0.0),
            Conduct::Stepping { from, by } => {
                if time >= from {
                    by
                } else {
                    0.0
                }
            }
            Conduct::Silent { from, until } => {
                if (from..until).contains(&time) {
                    return None;
                } else {
                    0.0
                }
            }
        };
        Some(Exchange {
            error: (forward - backward) / 2.0 - (sent + received) / 2.0 + own + lie,
            delay: forward + backward + received - sent,
            root_distance: p.root_distance,
        })
    }

    fn schedule(&mut self, time: f64) {
        self.asked += 1;
        let wait = if self.asked < self.params.burst {
            2.0
        } else {
            self.params.poll * (1.0 + self.params.poll_jitter * normal(&mut self.random)).clamp(0.5, 2.0)
        };
        self.next_poll = time + wait.max(0.01);
    }

    /// Lets routes, outages and the server's own error move over `elapsed` seconds.
    fn wander(&mut self, elapsed: f64) {
        let p = self.params;
        let happens = |random: &mut Random, rate: f64| random.random::<f64>() < 1.0 - (-rate * elapsed).exp();
        if p.detour > 0.0 {
            // Two states with the given share of time and mean spell; the chance to have switched after a while is exact.
            let other = if self.on_detour { 1.0 - p.detour } else { p.detour };
            let switch = other * (1.0 - (-elapsed / p.detour_spell.max(1e-3)).exp());
            if self.random.random::<f64>() < switch {
                self.on_detour = !self.on_detour;
            }
        }
        if p.route_changes_per_day > 0.0 && happens(&mut self.random, p.route_changes_per_day / DAY) {
            let new = -p.route_change * (1.0 - self.random.random::<f64>()).ln();
            if self.random.random_bool(0.5) {
                self.forward = p.forward.base + new;
            } else {
                self.backward = p.backward.base + new;
            }
        }
        if p.outages_per_day > 0.0 && happens(&mut self.random, p.outages_per_day / DAY) {
            let length = -p.outage * (1.0 - self.random.random::<f64>()).ln();
            self.outage_until = self.last + elapsed + length;
        }
        if p.wobble > 0.0 {
            // A disciplined server's error lives about ten minutes.
            let decay = (-elapsed / 600.0).exp();
            self.wobble = decay * self.wobble + p.wobble * (1.0 - decay * decay).sqrt() * normal(&mut self.random);
        }
    }

    fn queueing(&mut self, mean: f64) -> f64 {
        let queues = self.params.queues.clamp(1, 4);
        let sum: f64 = (0..queues).map(|_| -(1.0 - self.random.random::<f64>()).ln()).sum();
        let mut wait = mean * sum / f64::from(queues);
        if self.params.tail > 0.0 && self.random.random::<f64>() < self.params.tail {
            let u = 1.0 - self.random.random::<f64>();
            // Nothing waits longer than a client does.
            wait += (self.params.tail_scale * (u.powf(-1.0 / self.params.tail_exponent.max(0.5)) - 1.0)).min(1.0);
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::stream;

    fn wild() -> ServerParams {
        ServerParams {
            forward: Direction { base: 1e-3, queue: 5e-4 },
            backward: Direction { base: 2e-3, queue: 5e-4 },
            queues: 2,
            tail: 0.05,
            tail_scale: 5e-3,
            tail_exponent: 1.5,
            congestion: 3.0,
            detour: 0.8,
            detour_delay: 2e-3,
            detour_spell: 120.0,
            route_changes_per_day: 10.0,
            route_change: 5e-3,
            loss: 0.1,
            outages_per_day: 4.0,
            outage: 600.0,
            poll: 16.0,
            poll_jitter: 0.1,
            burst: 4,
            root_distance: 1e-3,
            wobble: 1e-3,
            ..Default::default()
        }
    }

    fn exchanges(params: ServerParams, seconds: f64) -> Vec<(f64, Option<Exchange>)> {
        let mut server = Server::new(params, stream(5, "server"));
        let mut random = stream(5, "jitter");
        let mut all = Vec::new();
        while server.next_poll() < seconds {
            let time = server.next_poll();
            all.push((time, server.exchange(time, [1e-3 * normal(&mut random), 1e-3 * normal(&mut random)])));
        }
        all
    }

    #[test]
    fn an_honest_server_keeps_to_its_budget() {
        let all = exchanges(wild(), 10.0 * DAY);
        assert!(all.len() > 50_000);
        for exchange in all.iter().filter_map(|e| e.1) {
            // A picosecond for rounding.
            assert!(exchange.error.abs() <= exchange.delay / 2.0 + exchange.root_distance + 1e-12, "{exchange:?}");
        }
    }

    #[test]
    fn routes_and_losses_have_their_shares() {
        let params =
            ServerParams { loss: 0.1, detour: 0.8, outages_per_day: 0.0, route_changes_per_day: 0.0, ..wild() };
        let all = exchanges(params, 20.0 * DAY);
        let answered: Vec<Exchange> = all.iter().filter_map(|e| e.1).collect();
        let lost = 1.0 - answered.len() as f64 / all.len() as f64;
        assert!((0.09..0.11).contains(&lost), "{lost}");
        let mut quiet = params;
        quiet.forward.queue = 1e-6;
        quiet.backward.queue = 1e-6;
        quiet.tail = 0.0;
        let mut server = Server::new(quiet, stream(6, "server"));
        let long =
            (0..100_000).filter_map(|i| server.exchange(16.0 * f64::from(i), [0.0; 2])).filter(|e| e.delay > 4e-3);
        let share = long.count() as f64 / 90_000.0;
        assert!((0.77..0.83).contains(&share), "{share}");
    }

    #[test]
    fn a_liar_lies_by_what_it_was_told() {
        let truth = exchanges(ServerParams { wobble: 0.0, ..wild() }, 3600.0);
        let lies = exchanges(
            ServerParams { wobble: 0.0, conduct: Conduct::Stepping { from: 1000.0, by: 0.5 }, ..wild() },
            3600.0,
        );
        for ((time, a), (_, b)) in truth.iter().zip(&lies) {
            if let (Some(a), Some(b)) = (a, b) {
                let by = if *time >= 1000.0 { 0.5 } else { 0.0 };
                assert!((b.error - a.error - by).abs() < 1e-12);
            }
        }
    }
}
