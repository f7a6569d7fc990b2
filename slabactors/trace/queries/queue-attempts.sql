-- Attempts to queue a work item between two runs of it, or between its last run and the end of what holds it.
WITH started AS (
    SELECT actor, step, lead(step) OVER (PARTITION BY actor ORDER BY step) AS next
    FROM steps WHERE operation = 'clear_pending'
),
freed AS (
    SELECT regexp_replace(actor, '\.params$', '.destroy') AS actor, step
    FROM steps WHERE actor LIKE '%.params' AND operation = 'free'
)
SELECT started.actor AS work, started.step AS started_at, least(started.next, freed.step) AS until,
       attempt.step AS attempt, attempt.lane, attempt.path, attempt.operation, attempt.reply
FROM started
LEFT JOIN freed USING (actor)
JOIN steps AS attempt
  ON attempt.actor = started.actor AND attempt.operation IN ('is_pending', 'test_and_set_pending')
 AND attempt.step > started.step AND attempt.step < coalesce(least(started.next, freed.step), 9223372036854775807)
ORDER BY attempt.step
