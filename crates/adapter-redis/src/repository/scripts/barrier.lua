-- Writes what is there already: once a replica has this, it has all that came before.
--
-- KEYS: counter of a bucket.
redis.call('SET', KEYS[1], redis.call('GET', KEYS[1]) or '0')
return 1
