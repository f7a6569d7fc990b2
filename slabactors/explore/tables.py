"""What each path and each actor of a program does, learnt by trying and looked up ever after.

A path is a function of the replies that it was given, and an operation one of its actor's state and its arguments; that
is what the laws say.  So each (place of a path, reply) and each (state of an actor, message) is run for real once.  A
state of the whole program is then a few small numbers packed into one, and a step an addition.

It is for programs whose actors hold plain values and whose paths, once started, only ask and join; others are refused
with `NoTables`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NamedTuple, TypeAlias

from slabactors.actors import Actor, Join, Message, Operation, Timed
from slabactors.actors.footprint import Reach
from slabactors.actors.locks import AT_LARGE, LockState, circle
from slabactors.errors import KernelBug, SlabactorsError
from slabactors.explore.fingerprint import DRIVER_ATTRIBUTES, Fingerprint, NoFingerprint
from slabactors.explore.program import Program
from slabactors.runtime.guided import GuidedSimulation
from slabactors.runtime.simulated import SimPath, Simulation
from slabactors.runtime.step import Decision, TimePolicy

LATER_JIFFIES: Final = 12_345
"""By how much a step is tried later, to see whether it looks at the time of day."""

_PLAIN = (int, str, float, bytes, type(None), Enum, Actor)


class NoTables(SlabactorsError):
    """The program does something that tables cannot hold."""


class Ask(NamedTuple):
    """A path waits with a message: operation, number of the actor, arguments."""

    operation: Operation
    actor: int
    args: tuple[Any, ...]


class Await(NamedTuple):
    """A path waits for another one, by its number, or for what some return together."""

    children: tuple[int, ...]
    together: bool


class Results(NamedTuple):
    """What those returned that a path waited for together."""

    values: tuple[Any, ...]


class Over(NamedTuple):
    """A path has returned something, or raised."""

    result: Any
    raised: Exception | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path can be.

    Attributes:
        replies: what it has been given on one of the ways there.
        does: what it waits for there.
        locks: what it has to do with locks there.
    """

    replies: tuple[Any, ...]
    does: Ask | Await | Over
    locks: LockState = AT_LARGE


@dataclass(slots=True)
class Places:
    """What is known of a path, and of those that do the same thing from the same beginning.

    Attributes:
        example: the number of a path that it is about.
        known: by number; the first is where the path begins.
        after: the number of the place that a reply leads to from a place.
    """

    example: int
    known: list[Place] = field(default_factory=list)
    numbers: dict[Any, int] = field(default_factory=dict)
    after: dict[tuple[int, Any], int] = field(default_factory=dict)


@dataclass(slots=True)
class States:
    """What is known of an actor: its states by number, as values of its fields; the first is how it begins."""

    actor: Actor
    names: tuple[str, ...]
    known: list[tuple[Any, ...]] = field(default_factory=list)
    numbers: dict[Any, int] = field(default_factory=dict)

    def number(self) -> int:
        """The number of the state that the actor is in."""
        if not vars(self.actor).keys() <= {*self.names, *DRIVER_ATTRIBUTES, "name", "embedded"}:
            raise NoTables(f"{self.actor.name} has got a new attribute")
        state = tuple([getattr(self.actor, name) for name in self.names])
        key = _typed(state)
        try:
            number = self.numbers.get(key)
        except TypeError:
            check_plain(state)
            raise
        if number is None:
            check_plain(state)
            number = self.numbers[key] = len(self.known)
            self.known.append(state)
        return number

    def enter(self, number: int) -> Actor:
        """The actor, put into a state."""
        actor = self.actor
        for name, value in zip(self.names, self.known[number], strict=True):
            setattr(actor, name, value)
        return actor


class Stepped(NamedTuple):
    """What a step comes to: the next place of its path, the next state of its actor, or what broke."""

    place: int
    state: int
    bug: KernelBug | None = None


def _typed(value: Any) -> Any:
    """A key under which 1 and True are two things."""
    if isinstance(value, tuple):
        return (type(value), *[_typed(one) for one in value])
    return type(value), repr(value) if isinstance(value, float) else value


def check_plain(value: Any) -> None:
    """Refuse a value that could change without being asked to.

    Raises:
        NoTables: it is none of numbers, texts, enums, actors, and tuples of them.
    """
    if isinstance(value, tuple):
        for one in value:
            check_plain(one)
    elif not isinstance(value, _PLAIN):
        raise NoTables(f"a {type(value).__qualname__} is no plain value")


class _PlaceOf(Fingerprint):
    """Fingerprints of one path; actors are told apart by name."""

    def place(self, simulation: Simulation, path: SimPath) -> Any:
        """Where a path is."""
        self._begin(simulation)
        return self._suspended(path.coroutine)

    def _value(self, value: Any) -> Any:
        return ("actor", value.name) if isinstance(value, Actor) else super()._value(value)


Look: TypeAlias = "Callable[[GuidedSimulation], None]"


class _Visit:
    """A guide that follows a schedule, looks at the run where it ends, and gives it up there."""

    name = "visit"
    reduces = False
    forced = True
    exhausted = True

    def __init__(self, look: Look, decisions: Sequence[Decision] = ()) -> None:
        self._look = look
        self._decisions = decisions
        self._made = 0
        self._simulation: Simulation | None = None
        self.error: Exception | None = None

    def follow(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        return enabled[0]

    def choose(self, count: int) -> int:
        return 0

    def next(self, enabled: Sequence[SimPath]) -> SimPath | None:
        simulation = self._simulation
        assert isinstance(simulation, GuidedSimulation)
        if self._made < len(self._decisions):
            wanted = self._decisions[self._made]
            self._made += 1
            for path in enabled:
                operation, actor, _ = path.request
                if (path.key, operation.name, actor.name) == (wanted.path, wanted.operation, wanted.actor):
                    return path
            self.error = NoTables("a step of the tables cannot be taken")
            return None
        self._see(simulation)
        return None

    def _see(self, simulation: GuidedSimulation) -> None:
        try:
            self._look(simulation)
        except Exception as error:  # a simulation would take it for one of the program
            self.error = error

    def choose_for(self, path: SimPath, count: int) -> int:
        self.error = NoTables("a path chooses before the first step")
        return 0

    def delivered(
        self, path: SimPath, operation: Operation, actor: Actor, reach: Reach, *, timer: bool, barrier: bool
    ) -> None:
        pass

    def resumed(self) -> None:
        pass

    def finished(self, simulation: GuidedSimulation) -> None:
        if self._made < len(self._decisions) or not self._decisions:
            self.error = self.error or NoTables("the program ends before the tables say so")
        else:
            self._see(simulation)


class Tables:
    """The tables of one program, filled as they are asked.

    Args:
        program: whose.
        time: overrides its own policy; under any but quiescent time no timer may be set.

    Attributes:
        keys: of the paths, by number.
        daemons: which of them are daemons.
        places: what is known of each path; the same for those that are interchangeable.
        actors: what is known of each actor.
        visits: how often the program was started.
        edges: classes of locks, the second taken while the first was held, in whichever state: more than in any one
            execution.

    Raises:
        NoTables: the program does something that tables cannot hold.
    """

    def __init__(self, program: Program, time: TimePolicy | None) -> None:
        self._program = program
        self._time = time
        self._place_of = _PlaceOf()
        self.actors: list[States] = []
        self._actor_numbers: dict[str, int] = {}
        self.keys: list[str] = []
        self.daemons: list[bool] = []
        self.places: list[Places] = []
        self.visits = 0
        self.edges: set[tuple[str, str]] = set()
        self._visit(self._begin)

    def _visit(self, look: Look) -> None:
        guide = _Visit(look)
        self.visits += 1
        self._program.execute(guide, time=self._time, driver=GuidedSimulation)
        if guide.error is not None:
            if isinstance(guide.error, NoFingerprint):
                raise NoTables(str(guide.error)) from guide.error
            raise guide.error

    def _begin(self, simulation: GuidedSimulation) -> None:
        """Learn which paths there are, and which of them are interchangeable."""
        self._quiescent = simulation.time is TimePolicy.QUIESCENT
        if simulation.invariant is not None:
            raise NoTables("an invariant is looked at after every step")
        if simulation.timers or simulation.broken or simulation.choosers:
            raise NoTables("something happens before the first step")
        self.keys = [path.key for path in simulation.paths]
        self.daemons = [path.daemon for path in simulation.paths]
        alike: dict[Any, Places] = {}
        for number, path in enumerate(simulation.paths):
            does = self._doing(simulation, path, path.request)
            print_of = self._print(simulation, path, does)
            parent = None if path.parent is None else path.parent.key
            locks = simulation.locks.states.get(path, AT_LARGE)
            places = alike.setdefault((parent, path.name, path.daemon, print_of, locks), Places(number))
            if not places.known:
                places.known.append(Place((), does, locks))
                places.numbers[print_of, locks] = 0
            self.places.append(places)

    def _print(self, simulation: Simulation, path: SimPath, does: Ask | Await | Over) -> Any:
        if isinstance(does, Over):
            return "over", _typed((does.result,)), repr(does.raised)
        place = self._place_of.place(simulation, path)
        return (does.children, place) if isinstance(does, Await) else place

    def _doing(self, simulation: Simulation, path: SimPath, request: Message) -> Ask | Await | Over:
        if path.done:
            check_plain(path.result)
            return Over(path.result)
        if path.gathers is not None:
            return Await(tuple(child.id for child in path.gathers), together=True)
        if path.joins and not path.joins[-1].done:
            return Await((path.joins[-1].id,), together=False)
        return self._asks(request)

    def _asks(self, request: Message) -> Ask:
        operation, actor, args = request
        check_plain(args)
        if operation.frees:
            raise NoTables(f"{operation!r} frees its actor")
        if any(isinstance(one, Actor) for one in args):
            raise NoTables(f"{operation!r} is given an actor")
        if operation.clock and not isinstance(actor, Timed):
            raise NoTables(f"{operation!r} reads the clock")
        return Ask(operation, self._actor(actor), args)

    def _actor(self, actor: Actor) -> int:
        number = self._actor_numbers.get(actor.name)
        if number is None:
            if actor.tombstone is not None or actor.embedded:
                raise NoTables(f"{actor.name} is freed, or holds others")
            if isinstance(actor, Timed) and actor.deferrable:
                raise NoTables(f"the timer of {actor.name} is deferrable: nobody waits for it")
            if any(vars(base).get("__slots__") for base in type(actor).__mro__):
                raise NoTables(f"{actor.name} keeps attributes in slots")
            left_out = DRIVER_ATTRIBUTES - {"deadline"} | {"name"}
            names = tuple(sorted(name for name in vars(actor) if name not in left_out))
            if isinstance(actor, Timed):
                names = tuple(sorted({*names, "deadline"}))
            number = self._actor_numbers[actor.name] = len(self.actors)
            self.actors.append(States(actor, names))
            self.actors[number].number()
        return number

    # -- learning --------------------------------------------------------------------------------------------------

    def place_after(self, number: int, place: int, replies: tuple[Any, ...]) -> int:
        """Where a path goes on from a place when it is given a reply, or the results of all that it waited for."""
        places = self.places[number]
        check_plain(replies)
        asked = place, _typed(replies)
        after = places.after.get(asked)
        if after is None:
            before = places.known[place]
            given = before.replies + replies
            check_plain(given)
            locks = self._locks_after(before, replies)
            if any(isinstance(one, Actor) for one in given):
                raise NoTables("an actor is given in a reply")

            def look(simulation: GuidedSimulation) -> None:
                path = simulation.paths[places.example]
                does = self._fed(simulation, path, given)
                print_of = self._print(simulation, path, does)
                if (print_of, locks) not in places.numbers:
                    places.numbers[print_of, locks] = len(places.known)
                    places.known.append(Place(given, does, locks))
                places.after[asked] = places.numbers[print_of, locks]

            self._visit(look)
            after = places.after[asked]
        return after

    def _fed(self, simulation: Simulation, path: SimPath, given: tuple[Any, ...]) -> Ask | Await | Over:
        """Give a path that is at its beginning some replies; what it waits for afterwards."""
        request: Any = None
        for reply in given:
            try:
                request = path.coroutine.send([*reply.values] if isinstance(reply, Results) else reply)
            except StopIteration as stop:
                check_plain(stop.value)
                return Over(stop.value)
            except Exception as raised:
                return Over(None, raised)
        if type(request) is tuple:
            return self._asks(request)
        if isinstance(request, Join) and isinstance(request.task, SimPath):
            return Await((request.task.id,), together=False)
        for unstarted in (request, getattr(request, "coroutine", None), getattr(request, "message", None)):
            close = getattr(unstarted, "close", None)
            if close is not None:
                close()  # it would complain that nobody ever awaited it
        raise NoTables(f"{path.name} does more than asking and joining ({type(request).__name__})")

    def _locks_after(self, place: Place, replies: tuple[Any, ...]) -> LockState:
        """What a path has to do with locks when it goes on from a place.

        Raises:
            NoTables: there is something for lockdep to report, in one execution or in several together.
        """
        if not isinstance(place.does, Ask) or not place.does.operation.locks:
            return place.locks
        operation, number, args = place.does
        if operation.tries and not replies[0]:
            return place.locks
        actor = self.actors[number].actor
        if operation.enters is not None:
            raise NoTables(f"{operation!r} enters what others wait for")
        after = place.locks.after(
            operation, actor if operation.waits_for is None else operation.waits_for(actor, *args)
        )
        if not after.edges <= self.edges:
            self.edges |= after.edges
            if circle(frozenset(self.edges)):
                raise NoTables("locks are taken in a circle, in one execution or in several together")
        return after

    def step(self, number: int, place: int, state: int) -> Stepped | None:
        """Deliver the message of a path in a place to its actor in a state; None when it has to wait."""
        does = self.places[number].known[place].does
        assert isinstance(does, Ask)
        operation, actor_number, args = does
        states = self.actors[actor_number]
        actor = states.enter(state)
        if operation.sleeps and self.places[number].known[place].locks.awake:
            raise NoTables(f"{operation!r} is reached where nobody may sleep")
        try:
            if operation.guard is not None and not operation.guard(actor, *args):
                return None
            reply = operation.function(actor, *args)
        except KernelBug as bug:
            return Stepped(place, state, bug)
        except Exception as raised:
            raise NoTables(f"{operation!r} raised {raised!r}") from raised
        if operation.clock:
            after = states.number()
            if self._later(does, state) != (reply, after):
                raise NoTables(f"what {operation!r} does depends on the time of day")
            states.enter(after)
        if operation.clock and getattr(actor, "deadline", None) is not None and not self._quiescent:
            raise NoTables("a timer is set, and may fire early")
        return Stepped(self.place_after(number, place, (reply,)), states.number())

    def _later(self, does: Ask, state: int) -> tuple[Any, int]:
        """What a step on a timer comes to at another time: the same, if it is only how long to wait that counts."""
        operation, number, args = does
        states = self.actors[number]
        timed = states.enter(state)
        assert isinstance(timed, Timed)
        try:
            timed.clock.now += LATER_JIFFIES
            if timed.deadline is not None:
                timed.deadline += LATER_JIFFIES
            reply = operation.function(timed, *args)
        except Exception as raised:
            raise NoTables(f"{operation!r} raised {raised!r} at another time") from raised
        finally:
            timed.clock.now -= LATER_JIFFIES
        if timed.deadline is not None:
            timed.deadline -= LATER_JIFFIES
        return reply, states.number()

    def deadline(self, actor: int, state: int) -> int | None:
        """In how many jiffies the timer of an actor goes off, if it is set."""
        states = self.actors[actor]
        return getattr(states.enter(state), "deadline", None)

    def fire(self, actor: int, state: int) -> int:
        """The state of an actor when its timer has gone off.

        Raises:
            NoTables: that starts a path.
        """
        states = self.actors[actor]
        timed = states.enter(state)
        assert isinstance(timed, Timed)
        try:
            type(timed).expire.operation.function(timed)  # type: ignore[attr-defined]
        except Exception as raised:
            raise NoTables(f"the timer of {timed.name} raised {raised!r}") from raised
        if timed.on_expiry() is not None:
            raise NoTables(f"the timer of {timed.name} starts a path")
        return states.number()

    def let_pass(self, actor: int, state: int, jiffies: int) -> int:
        """The state of an actor when some time has passed."""
        states = self.actors[actor]
        timed = states.enter(state)
        if getattr(timed, "deadline", None) is not None:
            timed.deadline -= jiffies  # type: ignore[attr-defined]
        return states.number()


def check(
    program: Program, decisions: Sequence[Decision], values: dict[str, dict[str, Any]], time: TimePolicy | None
) -> None:
    """Run a schedule, and see whether the actors hold what the tables say.

    Raises:
        NoTables: they do not.
    """

    def look(simulation: GuidedSimulation) -> None:
        if simulation.broken:
            raise NoTables("what does not break by the tables breaks when it is run")
        for path in simulation.paths:
            actor = path.request[1]
            for name, value in values.get(actor.name, {}).items():
                held = getattr(actor, name)
                if name == "deadline" and held is not None:
                    held -= simulation.clock.now
                if not isinstance(value, Actor) and _typed(held) != _typed(value):
                    raise NoTables(f"{actor.name}.{name} is {held!r}, and by the tables {value!r}")

    guide = _Visit(look, decisions)
    program.execute(guide, time=time, driver=GuidedSimulation)
    if guide.error is not None:
        raise guide.error
