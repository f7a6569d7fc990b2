-- The pages of every child cache over virtual time.
SELECT seconds, step, regexp_replace(actor, '\.params$', '') AS cache, changed ->> '$.pages' AS pages
FROM steps WHERE actor LIKE '%.params' AND (changed ->> '$.pages') IS NOT NULL
ORDER BY step
