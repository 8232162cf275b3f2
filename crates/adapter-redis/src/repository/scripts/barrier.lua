-- Writes a value that is already there: once a replica has it, it has everything before it.
--
-- KEYS: counter of a bucket.
redis.call('SET', KEYS[1], redis.call('GET', KEYS[1]) or '0')
return 1
