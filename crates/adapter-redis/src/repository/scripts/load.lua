-- Reads a device as of one instant: every session that has neither ended nor expired by a commit, and one that was asked for.
--
-- KEYS: the device, or the session that was asked for. ARGV: base; the session's id, or nothing.
-- Answers nothing for an unknown session, else { revision, watermark, id, record, activity, … }.
local base, asked = ARGV[1], ARGV[2]
local device, out = KEYS[1], {}
if not settled(base) then
  return moving
end

local function add(id)
  local record = redis.call('GET', base .. 's:' .. id)
  if record then
    out[#out + 1] = id
    out[#out + 1] = record
    out[#out + 1] = redis.call('GET', base .. 'a:' .. id) or ''
  end
  return record
end

if asked ~= '' then
  local record = add(asked)
  if not record then
    return false
  end
  local high, low = string.byte(record, 9, 10)
  if not low then
    return { '0', '', unpack(out) }
  end
  device = base .. 'd:' .. string.sub(record, 13, 12 + high * 256 + low)
end
local revision, watermark = '0', ''
local fields = redis.call('HGETALL', device)
for i = 1, #fields, 2 do
  local field, value = fields[i], fields[i + 1]
  if field == 'r' then
    revision = value
  elseif field == 'h' then
    watermark = value
  elseif field ~= asked then
    add(field)
  end
end
return { revision, watermark, unpack(out) }
