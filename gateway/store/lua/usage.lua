-- What tenants have used in one day, exactly as gateway/store/memory/usage.py does it.
--
-- KEYS[1]  a hash: `t:{tenant}` is a count, `r:{replica}` the last sequence that this replica has told
-- ARGV     replica, sequence, seconds to keep, then tenant, count, ...
-- Answer   tenant, sum, ... for every tenant

local key = KEYS[1]
remove_foreign(key, 'hash')

local told = 'r:' .. ARGV[1]
if #ARGV > 3 and tonumber(redis.call('HGET', key, told) or '0') < tonumber(ARGV[2]) then
  for i = 4, #ARGV, 2 do redis.call('HINCRBY', key, 't:' .. ARGV[i], ARGV[i + 1]) end
  redis.call('HSET', key, told, ARGV[2])
  redis.call('EXPIRE', key, ARGV[3])
end

local answer = {}
local all = redis.call('HGETALL', key)
for i = 1, #all, 2 do
  if string.sub(all[i], 1, 2) == 't:' then
    answer[#answer + 1] = string.sub(all[i], 3)
    answer[#answer + 1] = tonumber(all[i + 1]) or 0
  end
end
return answer
