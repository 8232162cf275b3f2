-- What every script that writes begins with. Keys that are not declared share the declared ones' hash tag.

-- The fixed part of a record: state, last activity, device, subject. Nil where it is too short to be one.
local function head(key)
  local fixed = redis.call('GETRANGE', key, 0, 11)
  if #fixed < 12 then
    return nil
  end
  local b = { string.byte(fixed, 1, 12) }
  local activity = 0
  for i = 3, 8 do
    activity = activity * 256 + b[i]
  end
  local device, subject = b[9] * 256 + b[10], b[11] * 256 + b[12]
  return { ended = b[2] == 101, activity = activity, device = device, subject = subject }
end

-- TIME in microseconds: an integer below 2^53 until the year 2255.
local function micros()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function int(number)
  return string.format('%.0f', number)
end

-- Makes a key live until `at` at least. GT alone does nothing to a key that has no time to live.
local function keep(key, at)
  if redis.call('PEXPIREAT', key, at, 'NX') == 0 then
    redis.call('PEXPIREAT', key, at, 'GT')
  end
end

-- A revision that no device of the bucket had before, not even if the counter was lost.
local function next_revision(counter)
  local last = tonumber(redis.call('GET', counter) or '0') or 0
  local revision = int(math.max(micros(), last + 1))
  redis.call('SET', counter, revision)
  return revision
end

-- Removes a session's record and every mention of it but that in its device.
local function drop(base, id)
  local key = base .. 's:' .. id
  local known = head(key)
  if known then
    local subject = redis.call('GETRANGE', key, 12 + known.device, 11 + known.device + known.subject)
    redis.call('ZREM', base .. 'u:' .. subject, id)
  end
  redis.call('DEL', key, base .. 'a:' .. id)
  redis.call('ZREM', base .. 'i', id)
end

-- Removes ids whose records are gone from an index: a few at random, more than a commit adds.
local function sample(base, index)
  for _, id in ipairs(redis.call('ZRANDMEMBER', index, 3)) do
    if redis.call('EXISTS', base .. 's:' .. id) == 0 then
      redis.call('ZREM', index, id)
    end
  end
end
