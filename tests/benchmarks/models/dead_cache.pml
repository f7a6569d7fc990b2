/* The micro-problem of tests/explore/micro.py in Promela: one dead cache whose destroy work may be queued twice.
 *
 *   spin -DCPUS=3 -DFREES=3 -DVARIANT=0 -a dead_cache.pml      (0 fixed, 1 v5)
 *
 * Nobody ever leaves its loop, so the program counters say nothing and a state is what the variables say: there are
 * as many of them as in the program.  What moves is one d_step.
 */
#ifndef CPUS
#define CPUS 3
#endif
#ifndef FREES
#define FREES 3
#endif
#ifndef VARIANT
#define VARIANT 0
#endif

#define IDLE 0
#define POPPED 1
#define EMPTY 2
#define SHRINKS 3
#define LOOKS 4

short objects = CPUS * FREES + 1;
bool dead, pending, armed, offlined, shrunk;
bool empty_page = true;
byte queued, destroyed;
byte at = IDLE;        /* where the worker is */

inline untouched() { assert(destroyed == 0) }

inline queue_once() {
    if
    :: pending
    :: else -> pending = true; queued++
    fi
}

inline drop() {
    objects--;
    if
    :: objects == 0 && dead -> queue_once()
    :: else
    fi
}

active [CPUS] proctype cpu() {
    byte left = FREES;
end:
    do
    :: d_step { left > 0 -> untouched(); left--; drop() }
    od
}

active proctype shrinker() {
end:
    do
    :: d_step { !shrunk -> shrunk = true;
           if
           :: destroyed == 0 && empty_page -> empty_page = false; drop()
           :: else
           fi }
    od
}

active proctype offline() {
end:
    do
    :: d_step { !offlined -> offlined = true; dead = true; queue_once() }
    od
}

active proctype worker() {
end:
    do
#if VARIANT == 0
    :: d_step { at == IDLE && queued > 0 -> queued--; pending = false; untouched();
           if
           :: objects == 0 -> destroyed++
           :: else -> at = SHRINKS
           fi }
#else
    :: d_step { at == IDLE && queued > 0 -> queued--; pending = false; at = POPPED }
    :: d_step { at == POPPED -> untouched();
           if
           :: objects == 0 -> at = EMPTY
           :: else -> at = SHRINKS
           fi }
    :: d_step { at == EMPTY -> untouched(); destroyed++; at = IDLE }
#endif
    :: d_step { at == SHRINKS -> untouched(); at = LOOKS;
           if
           :: empty_page -> empty_page = false; drop()
           :: else
           fi }
    :: d_step { at == LOOKS -> untouched(); at = IDLE;
           if
           :: objects > 0 && !pending -> pending = true; armed = true
           :: else
           fi }
    od
}

/* A timeout is when nothing else can move.  At rest it goes round once more, which is one transition too many. */
active proctype timer() {
end:
    do
    :: d_step { timeout ->
           if
           :: armed -> armed = false; queued++
           :: else -> assert(destroyed == 1)
           fi }
    od
}
