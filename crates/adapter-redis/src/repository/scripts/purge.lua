-- Removes records of one device that are still what they were when the decision was made.
--
-- KEYS: device, over, index of the bucket, counter. ARGV: base, channel, now (empty: the server's own);
-- then for each record: id, its checksum, the latest activity that the decision knew of, 1 if it counts, else 0.
-- Answers how many of those that count were removed.
local device, over, counter = KEYS[1], KEYS[2], KEYS[4]
local base = ARGV[1]
if not settled(base) then
  return moving
end
redis.call('ZCARD', over)
redis.call('ZCARD', KEYS[3])
local revision = redis.call('HGET', device, 'r')
local counted, unended, news = 0, false, {}
for at = 4, #ARGV, 4 do
  local id = ARGV[at]
  local key = base .. 's:' .. id
  local known = head(key)
  local used = tonumber(redis.call('GET', base .. 'a:' .. id) or '0')
  if known and redis.call('GETRANGE', key, -4, -1) == ARGV[at + 1] and used <= tonumber(ARGV[at + 2]) then
    unended = unended or not known.ended
    drop(base, id)
    redis.call('HDEL', device, id)
    redis.call('ZREM', over, id)
    counted = counted + tonumber(ARGV[at + 3])
    news[#news + 1] = id .. ' purged'
  end
end
if #news > 0 then
  local now = ARGV[3] == '' and math.floor(micros() / 1000) or tonumber(ARGV[3])
  if unended and revision then
    redis.call('HSET', device, 'r', next_revision(counter))
  end
  local watermark = redis.call('HGET', device, 'h')
  local ends = watermark and tonumber(string.match(watermark, '^%d+,(%d+)$')) or 0
  -- Only the revision is left, and a watermark that has passed: nothing to remember.
  local left = redis.call('HLEN', device) - (watermark and 2 or 1)
  if left <= 0 and ends <= now and redis.call('ZCARD', over) == 0 then
    redis.call('DEL', device)
  end
  redis.pcall('PUBLISH', ARGV[2], int(now) .. ' ' .. table.concat(news, ' '))
end
return counted
