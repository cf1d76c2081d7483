-- Faults on demand, exactly as gateway/store/memory/faults.py does it.
--
-- KEYS[1]  a hash: field id, value `{until} {end} {upstream} {JSON}`, both instants in ms of the Redis clock. `until` is
--          as long as the last word of the owner is good. The key expires with the last of them.
-- ARGV     operation, then
--   add    id, duration in ms, lease in ms, the most that there may be, upstream, JSON
--                                    -> '' | the upstream that has faults | '*'
--   renew  lease in ms, id, ...
--   drop   id, ... (none: all)       -> how many there were
--   list                             -> JSON, ms to the end, ms to the end of the lease, ...

local key, op = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- A key of another type says nothing about faults.
remove_foreign(key, 'hash')

local faults, count = {}, 0
local all = redis.call('HGETALL', key)
for i = 1, #all, 2 do
  local till, stop, upstream, json = string.match(all[i + 1], '^(%d+) (%d+) (%S+) (.*)$')
  till, stop = tonumber(till), tonumber(stop)
  if till and stop and till > now then
    faults[all[i]] = { till = till, stop = stop, upstream = upstream, json = json }
    count = count + 1
  else
    redis.call('HDEL', key, all[i])
  end
end

local function write(id, fault)
  local value = string.format('%.0f %.0f %s %s', fault.till, fault.stop, fault.upstream, fault.json)
  redis.call('HSET', key, id, value)
end

local function expire()
  local last = 0
  for _, fault in pairs(faults) do last = math.max(last, fault.till) end
  if last > now then redis.call('PEXPIRE', key, string.format('%.0f', last - now)) end
end

if op == 'list' then
  local found = {}
  for _, fault in pairs(faults) do
    found[#found + 1] = fault.json
    found[#found + 1] = fault.stop - now
    found[#found + 1] = fault.till - now
  end
  return found
end

if op == 'drop' then
  local dropped = 0
  if #ARGV == 1 then
    redis.call('DEL', key)
    return count
  end
  for i = 2, #ARGV do dropped = dropped + redis.call('HDEL', key, ARGV[i]) end
  return dropped
end

if op == 'renew' then
  for i = 3, #ARGV do
    local fault = faults[ARGV[i]]
    if fault then
      fault.till = math.min(fault.stop, now + ARGV[2])
      write(ARGV[i], fault)
    end
  end
  expire()
  return 0
end

local id, stop = ARGV[2], now + ARGV[3]
if faults[id] then count = count - 1 end
for other, fault in pairs(faults) do
  if other ~= id and fault.upstream ~= ARGV[6] then return fault.upstream end
end
if count >= tonumber(ARGV[5]) then return '*' end
faults[id] = { till = math.min(stop, now + ARGV[4]), stop = stop, upstream = ARGV[6], json = ARGV[7] }
write(id, faults[id])
expire()
return ''
