-- The micro-problem of tests/explore/micro.py for Murphi (rumur): one dead cache whose destroy work may be queued twice.
-- The constants are replaced by whoever runs it.  With `cpu_ids` a scalarset, CPUs that do the same are interchangeable.

const
  cpus: 3;
  frees: 3;
  v5: 0;

type
  cpu_ids: CPU_IDS;
  places: enum { idle, popped, empty, shrinks, looks };

var
  objects: 0 .. cpus * frees + 1;
  left: array [cpu_ids] of 0 .. frees;
  dead, pending, armed, offlined, shrunk, empty_page, broken: boolean;
  queued: 0 .. 3;
  destroyed: 0 .. 2;
  at: places;

procedure touch(); begin
  if destroyed > 0 then broken := true; end;
end;

procedure queue_once(); begin
  if !pending then pending := true; queued := queued + 1; end;
end;

procedure drop(); begin
  objects := objects - 1;
  if objects = 0 & dead then queue_once(); end;
end;

function nobody_moves(): boolean; begin
  return at = idle & queued = 0 & offlined & shrunk & forall c: cpu_ids do left[c] = 0 end;
end;

startstate begin
  objects := cpus * frees + 1;
  for c: cpu_ids do left[c] := frees; end;
  dead := false; pending := false; armed := false; offlined := false; shrunk := false; broken := false;
  empty_page := true;
  queued := 0;
  destroyed := 0;
  at := idle;
end;

ruleset c: cpu_ids do
  rule "free" !broken & left[c] > 0 ==> begin
    touch();
    left[c] := left[c] - 1;
    drop();
  end;
end;

rule "shrink_slab" !broken & !shrunk ==> begin
  shrunk := true;
  if destroyed = 0 & empty_page then empty_page := false; drop(); end;
end;

rule "offline" !broken & !offlined ==> begin
  offlined := true;
  dead := true;
  queue_once();
end;

rule "pop" !broken & at = idle & queued > 0 ==> begin
  queued := queued - 1;
  pending := false;
  if v5 = 1 then
    at := popped;
  else
    touch();
    if objects = 0 then destroyed := destroyed + 1; else at := shrinks; end;
  end;
end;

rule "read" !broken & at = popped ==> begin
  touch();
  if objects = 0 then at := empty; else at := shrinks; end;
end;

rule "destroy" !broken & at = empty ==> begin
  touch();
  if destroyed < 2 then destroyed := destroyed + 1; end;
  at := idle;
end;

rule "shrink" !broken & at = shrinks ==> begin
  touch();
  at := looks;
  if empty_page then empty_page := false; drop(); end;
end;

rule "look again" !broken & at = looks ==> begin
  touch();
  at := idle;
  if objects > 0 & !pending then pending := true; armed := true; end;
end;

rule "timer" !broken & armed & nobody_moves() ==> begin
  armed := false;
  queued := queued + 1;
end;

-- So that the end is no deadlock (of the kind `stuck`): one firing too many.
rule "rest" !broken & !armed & nobody_moves() & destroyed = 1 ==> begin end;

invariant "no touch after destroy" !broken;
