-- How often and for how many steps each lock was held, and by whom longest.
WITH held AS (
    SELECT actor, path, step, operation,
           lead(step) OVER (PARTITION BY actor ORDER BY step) AS released
    FROM steps WHERE operation IN ('lock', 'trylock', 'unlock') OR operation LIKE '%_and_unlock'
)
SELECT actor AS lock, count(*) AS times, max(released - step) AS longest, arg_max(path, released - step) AS by_path
FROM held WHERE operation IN ('lock', 'trylock')
GROUP BY actor ORDER BY longest DESC NULLS LAST, lock
