-- Whether all keys of the slot are on this node, asked before anything else. While a cluster moves a slot, some are
-- here and some are not: a script that met one of the latter would be broken off half-way, and nothing undoes it.
-- On a node that a slot is leaving, even the look at a key that nobody writes is refused.
local moving = redis.error_reply('TRYAGAIN the slot is on its way to another node')

local function settled(base)
  return type(redis.pcall('EXISTS', base .. '-')) == 'number'
end
