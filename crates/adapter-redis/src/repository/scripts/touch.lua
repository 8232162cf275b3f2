-- Moves activity forward; never backward, never of a session that is ended or unknown.
--
-- KEYS: session, activity for each touch. ARGV: the times in milliseconds.
for i = 1, #ARGV do
  local session, activity = KEYS[2 * i - 1], KEYS[2 * i]
  local known = head(session)
  if known and not known.ended then
    local used = math.max(known.activity, tonumber(redis.call('GET', activity) or '0'))
    local ends = redis.call('PEXPIRETIME', session)
    if tonumber(ARGV[i]) > used and ends > 0 then
      redis.call('SET', activity, ARGV[i], 'PXAT', ends)
    end
  end
end
return 1
