"""What the replicas of a fleet have seen of one upstream, and which trip rule that comes to.

The trip rules are in `gateway/policy/verdict.py`. This module says what they are applied to:

    consecutive failures    The failures of all replicas that are later than every success of any replica.
    rates                   The windows of all live replicas, one tally each.

A failure without a connection may be the fault of the replica's own network. So each trip rule is applied twice. The
first time without the failures that are known to be such a fault: when a replica that was asked to try got a connection
at `reached_at`, failures without a connection up to then do not count. The second time without any failure that had no
connection; when the rule still holds, it is `firm`.

A replica that is gone leaves its latest success behind, and nothing else. All instants are those of the store's clock,
in seconds.
"""

from dataclasses import dataclass, field, replace

from gateway.policy.breaker import BreakerSettings
from gateway.policy.tally import Tally
from gateway.policy.verdict import CONSECUTIVE_FAILURES, cause, holds, judge_fleet, total
from gateway.store.port import CircuitReport


@dataclass(frozen=True, slots=True)
class ReplicaEvidence:
    """The latest report of one replica, which arrived at the instant `seen`, with its ages turned into instants.

    `success_at` and `unreached_at` are 0 when there was none. `failures_at` are the failures since the replica's own
    last success, the newest first. `unreached` of the `failures` had no connection.
    """

    seen: float
    calls: int = 0
    failures: int = 0
    slow_calls: int = 0
    unreached: int = 0
    success_at: float = 0.0
    unreached_at: float = 0.0
    failures_at: tuple[float, ...] = ()

    @classmethod
    def of(cls, report: CircuitReport, now: float) -> "ReplicaEvidence":
        """What a report that arrives at `now` says."""
        return cls(
            now,
            report.calls,
            report.failures,
            report.slow_calls,
            report.unreached,
            0.0 if report.success_age is None else now - report.success_age,
            0.0 if report.unreached_age is None else now - report.unreached_age,
            tuple(now - age for age in report.failure_ages),
        )

    def until(self, now: float) -> "ReplicaEvidence":
        """The same evidence with no instant later than `now`."""
        failures_at = tuple(min(at, now) for at in self.failures_at)
        success_at, unreached_at = min(self.success_at, now), min(self.unreached_at, now)
        return replace(self, seen=now, success_at=success_at, unreached_at=unreached_at, failures_at=failures_at)

    @property
    def doubtful(self) -> bool:
        """Whether at least one of its consecutive failures had no connection."""
        return bool(self.failures_at) and self.unreached_at >= self.failures_at[-1]

    def tally(self, unreached: bool = True) -> Tally:
        """Its window, with or without the calls that had no connection."""
        left_out = 0 if unreached else self.unreached
        return Tally(self.calls - left_out, self.failures - left_out, self.slow_calls)


@dataclass(frozen=True, slots=True)
class Finding:
    """What the evidence comes to when a trip rule holds.

    `cause` is the sentence for operators. `failures` is the number of failures to show. `since` is the instant from
    which the open time counts. `doubtful` are the replicas whose failures without a connection were counted. `firm`
    says that the rule also holds without all failures that had no connection.
    """

    cause: str
    failures: int
    since: float
    doubtful: frozenset[str]
    firm: bool

    @property
    def needs_second(self) -> bool:
        """Whether the rule holds only through the failures without a connection of a single replica."""
        return len(self.doubtful) == 1 and not self.firm


@dataclass(slots=True)
class FleetEvidence:
    """The evidence of all replicas in one generation of a circuit.

    `success_at` is the latest success of the replicas that are gone. `reached_at` is the last instant at which a
    replica that was asked to try got a connection. Both are 0 when there was none.
    """

    replicas: dict[str, ReplicaEvidence] = field(default_factory=dict)
    success_at: float = 0.0
    reached_at: float = 0.0

    def presence(self) -> "FleetEvidence":
        """The evidence with which a new generation begins: who is there, and nothing else."""
        return FleetEvidence({name: ReplicaEvidence(e.seen) for name, e in self.replicas.items()})

    def hold_to(self, now: float) -> None:
        """Let no instant be later than `now`, because the clock may have been set back."""
        self.replicas = {name: e.until(now) if e.seen > now else e for name, e in self.replicas.items()}
        self.success_at, self.reached_at = min(self.success_at, now), min(self.reached_at, now)

    def drop_dead(self, seen_by: float) -> list[str]:
        """Drop the replicas whose last report arrived at `seen_by` or earlier, and return their names."""
        gone = [name for name, e in self.replicas.items() if e.seen <= seen_by]
        for name in gone:
            self.success_at = max(self.success_at, self.replicas.pop(name).success_at)
        return gone

    def runs(self) -> dict[str, list[float]]:
        """The instants of the consecutive failures of the fleet, by replica.

        The failures of a replica are later than its own last success by construction. Whether they are later than the
        successes of other replicas is decided by their instants.
        """
        found = {}
        for name, own in self.replicas.items():
            success_at = self._success_elsewhere(name)
            run = [at for at in own.failures_at if at > success_at]
            if run:
                found[name] = run
        return found

    def counted_runs(self) -> dict[str, list[float]]:
        """`runs` without those of a replica that had no connection while another one could connect."""
        return {
            name: run
            for name, run in self.runs().items()
            if not self.replicas[name].doubtful or self.replicas[name].failures_at[0] > self.reached_at
        }

    def find(self, settings: BreakerSettings, now: float) -> Finding | None:
        """The trip rule that holds at `now`, if any."""
        replicas = list(self.replicas.values())
        runs = self.counted_runs()
        consecutive = [at for run in runs.values() for at in run]
        counted = [e.tally(unreached=e.unreached_at > self.reached_at) for e in replicas]
        rule = judge_fleet(settings, len(consecutive), counted)
        if rule is None:
            return None
        whole = total(counted)
        if rule is CONSECUTIVE_FAILURES:
            failures, since = len(consecutive), min(now, max(consecutive))
            doubtful = frozenset(name for name in self.runs() if self.replicas[name].doubtful)
        else:
            failures, since = whole.failures, now
            doubtful = frozenset(name for name, e in self.replicas.items() if e.unreached)
        certain_run = sum(len(run) for name, run in runs.items() if not self.replicas[name].doubtful)
        certain = [e.tally(unreached=False) for e in replicas]
        firm = holds(rule, settings, certain_run, certain)
        return Finding(cause(rule, settings, whole), failures, since, doubtful, firm)

    def denied(self, replica: str) -> bool:
        """Whether `replica` got no connection, and another replica has reached the upstream since then."""
        own = self.replicas.get(replica)
        if own is None or not own.doubtful:
            return False
        return own.unreached_at <= max(self.reached_at, self._success_elsewhere(replica))

    def _success_elsewhere(self, replica: str) -> float:
        others = [e.success_at for name, e in self.replicas.items() if name != replica]
        return max([self.success_at, *others])
