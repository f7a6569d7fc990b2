-- Which two operations of different paths met most often on one actor.
SELECT later.actor, earlier.operation AS first, later.operation AS second, count(*) AS times
FROM (SELECT actor, operation, path, unnest(causes) AS cause FROM steps) AS later
JOIN steps AS earlier ON earlier.step = later.cause AND earlier.path <> later.path AND earlier.actor = later.actor
GROUP BY ALL ORDER BY times DESC, later.actor LIMIT 30
