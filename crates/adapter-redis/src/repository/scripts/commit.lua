-- Applies one decision about one device, completely or not at all: compares, then stores. It knows no rule.
--
-- KEYS: device, over, index of the bucket, counter; then session, activity, index of the subject for each change.
-- ARGV: base, channel, now (empty: the server's own), expected revision, not after, retain, watermark (empty: none),
--       end of the watermark, numbers of guards, changes and expired ids; then
--       guard: id, last activity
--       change: id, kind (issued, imported, merged or other), code, record, state (a, e), expiry or end, kept until, activity
--       expired: id
local device, over, index, counter = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local base, channel = ARGV[1], ARGV[2]
if not settled(base) then
  return moving
end
local server_now = math.floor(micros() / 1000)
local now = ARGV[3] == '' and server_now or tonumber(ARGV[3])
-- Nothing but a time of its own, which tests have, makes this other than zero.
local shift = server_now - now
local guards, changes, expired = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])

if (redis.call('HGET', device, 'r') or '0') ~= ARGV[4] then
  return 'conflict'
end
if now > tonumber(ARGV[5]) then
  return 'late'
end
local at = 12
for _ = 1, guards do
  local used = redis.call('GET', base .. 'a:' .. ARGV[at])
  if used and tonumber(used) > tonumber(ARGV[at + 1]) then
    return 'conflict'
  end
  at = at + 2
end
local first, stored = at, {}
for i = 1, changes do
  local kind, key = ARGV[at + 1], KEYS[2 + 3 * i]
  local known = head(key)
  if kind == 'issued' and (known or redis.call('EXISTS', key) == 1) then
    return 'conflict'
  end
  if kind == 'other' and not known then
    return redis.call('EXISTS', key) == 1 and 'corrupt' or 'conflict'
  end
  local used = redis.call('GET', KEYS[3 + 3 * i])
  local counts = known and kind ~= 'imported'
  stored[i] = math.max(counts and known.activity or 0, counts and used and tonumber(used) or 0)
  redis.call('ZCARD', KEYS[4 + 3 * i])
  at = at + 8
end
-- A key of a wrong type must show before the first write: a script that fails half-way is not undone.
redis.call('ZCARD', over)
redis.call('ZCARD', index)

local revision = next_revision(counter)
local news = {}
at = first
for i = 1, changes do
  local id, kind, code, record = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local closed, until_ = ARGV[at + 5], int(tonumber(ARGV[at + 6]) + shift)
  local session, activity, subject = KEYS[2 + 3 * i], KEYS[3 + 3 * i], KEYS[4 + 3 * i]
  redis.call('SET', session, record, 'PXAT', until_)
  if stored[i] > tonumber(ARGV[at + 7]) then
    redis.call('SET', activity, int(stored[i]), 'PXAT', until_)
  else
    redis.call('DEL', activity)
  end
  if ARGV[at + 4] == 'e' then
    redis.call('HDEL', device, id)
    redis.call('ZADD', over, closed, id)
    keep(over, until_)
  else
    redis.call('HSET', device, id, closed .. ',' .. ARGV[at + 6])
    redis.call('ZREM', over, id)
  end
  if kind ~= 'other' then
    sample(base, index)
    sample(base, subject)
    redis.call('ZADD', index, 0, id)
    redis.call('ZADD', subject, 0, id)
  end
  keep(index, until_)
  keep(subject, until_)
  redis.call('HSET', device, 'r', revision)
  keep(device, until_)
  news[#news + 1] = id .. ' ' .. code
  at = at + 8
end
for _ = 1, expired do
  local id = ARGV[at]
  local closed, until_ = string.match(redis.call('HGET', device, id) or '', '^(%d+),(%d+)$')
  if closed then
    redis.call('HDEL', device, id)
    redis.call('ZADD', over, closed, id)
    keep(over, int(tonumber(until_) + shift))
  end
  at = at + 1
end
redis.call('HSET', device, 'r', revision)
if ARGV[7] ~= '' then
  redis.call('HSET', device, 'h', ARGV[7])
  keep(device, int(tonumber(ARGV[8]) + shift))
else
  redis.call('HDEL', device, 'h')
end
if redis.call('PTTL', device) == -1 then
  -- Only of a commit without changes on a device without sessions.
  redis.call('PEXPIREAT', device, int(server_now + 60000))
end
local surplus = redis.call('ZCARD', over) - tonumber(ARGV[6])
if surplus > 0 then
  for _, id in ipairs(redis.call('ZRANGE', over, 0, surplus - 1)) do
    drop(base, id)
    redis.call('ZREM', over, id)
    news[#news + 1] = id .. ' purged'
  end
end
if #news > 0 then
  redis.pcall('PUBLISH', channel, int(now) .. ' ' .. table.concat(news, ' '))
end
return revision
