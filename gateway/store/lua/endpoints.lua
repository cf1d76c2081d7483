-- Endpoints that an operator has taken out, exactly as gateway/store/memory/endpoints.py does it.
--
-- KEYS[1]  a hash: field `{upstream} {endpoint}`, value `{mode} {end in ms of the Redis clock} {reason}`. The key
--          expires with the last of them.
-- ARGV     operation, then
--   out    upstream, endpoint, mode, duration in ms, reason
--   back   upstream, endpoint        -> 1: it was out
--   list                             -> field, mode, time left in ms, reason, ...

local key, op = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- A key of another type says nothing about endpoints.
remove_foreign(key, 'hash')

local found, last = {}, 0
local all = redis.call('HGETALL', key)
for i = 1, #all, 2 do
  local mode, till, reason = string.match(all[i + 1], '^(%a+) (%d+) (.*)$')
  till = tonumber(till)
  if till and till > now then
    last = math.max(last, till)
    found[#found + 1] = all[i]
    found[#found + 1] = mode
    found[#found + 1] = till - now
    found[#found + 1] = reason
  else
    redis.call('HDEL', key, all[i])
  end
end
if op == 'list' then return found end

local field = ARGV[2] .. ' ' .. ARGV[3]
if op == 'back' then return redis.call('HDEL', key, field) end

local till = now + ARGV[5]
redis.call('HSET', key, field, ARGV[4] .. ' ' .. string.format('%.0f', till) .. ' ' .. ARGV[6])
redis.call('PEXPIRE', key, string.format('%.0f', math.max(last, till) - now))
return 1
