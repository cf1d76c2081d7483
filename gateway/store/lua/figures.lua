-- What replicas have counted, exactly as gateway/store/memory/figures.py does it.
--
-- KEYS[1]  of a service: a hash of `c{n}` (the counts of the n-th cell since the epoch, separated by spaces),
--          `s{replica}` (the sequence of its last delta and the cell in which that came), `last` (the last error),
--          `reset` and `at` (the cell in which old fields were last removed); instants of the Redis clock in ms.
--          For `resets` and `mark`: a hash of service and the instant of its last reset. For `push` and `list`: a list.
-- ARGV     operation, then
--   add    cell and time kept in ms, replica, sequence, age of the last error in ms (-1: none), then age in ms and
--          counts of each cell
--   sum    cell and window in ms, width          -> age of the last error in ms (-1: none), counts
--   reset  time kept in ms                       -> the instant
--   mark   time kept in ms, service, instant
--   resets                                       -> service, instant, ...
--   push   time kept in ms, entries to keep, entries, oldest first
--   list   how many                              -> entries, newest first

local key, op = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- A key of another type is nobody's figures.
remove_foreign(key, (op == 'push' or op == 'list') and 'list' or 'hash')

local function whole(number) return string.format('%.0f', number) end

-- The instant in a field: 0 if there is none, or none that can be meant. One that is later than now, which a clock that
-- was set back leaves behind, is now at the latest.
local function instant(field)
  local found = tonumber(string.match(redis.call('HGET', key, field) or '', '^%d+$') or 0)
  return math.min(found, now)
end

-- Digits that no count can be are as many as can be counted: infinity has no place in an answer.
local function count(digits) return math.min(tonumber(digits), 2 ^ 53) end

local function numbers(text)
  local found = {}
  for digits in string.gmatch(text, '%d+') do found[#found + 1] = count(digits) end
  return found
end

local function prune(current, oldest)
  if redis.call('HGET', key, 'at') == whole(current) then return end
  redis.call('HSET', key, 'at', whole(current))
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local index = tonumber(string.match(all[i], '^c(%d+)$')
      or (string.sub(all[i], 1, 1) == 's' and string.match(all[i + 1], ':(%d+)$')) or nil)
    if index and index < oldest then redis.call('HDEL', key, all[i]) end
  end
end

if op == 'add' then
  local cell, kept, replica, sequence = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
  local current = math.floor(now / cell)
  local seen = redis.call('HGET', key, 's' .. replica)
  if seen and sequence <= tonumber(string.match(seen, '^%d+') or -1) then return 0 end
  local reset = instant('reset')
  for i = 7, #ARGV, 2 do
    local at = now - ARGV[i]
    if at >= reset and at > now - kept then
      local field = 'c' .. whole(math.floor(at / cell))
      local packed = redis.call('HGET', key, field)
      if packed then
        local sum, more = numbers(packed), numbers(ARGV[i + 1])
        for n = 1, #more do sum[n] = whole((sum[n] or 0) + more[n]) end
        packed = table.concat(sum, ' ')
      else
        packed = ARGV[i + 1]
      end
      redis.call('HSET', key, field, packed)
    end
  end
  local age = tonumber(ARGV[6])
  if age >= 0 and now - age >= reset then
    if now - age > instant('last') then redis.call('HSET', key, 'last', whole(now - age)) end
  end
  redis.call('HSET', key, 's' .. replica, whole(sequence) .. ':' .. whole(current))
  prune(current, math.floor((now - kept) / cell))
  redis.call('PEXPIRE', key, whole(kept + 2 * cell))
  return 1
end

if op == 'sum' then
  local cell, width = tonumber(ARGV[2]), tonumber(ARGV[4])
  local first = math.floor((now - ARGV[3]) / cell)
  local sum, last = {}, nil
  for n = 1, width do sum[n] = 0 end
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local index = tonumber(string.match(all[i], '^c(%d+)$') or nil)
    if index and index >= first then
      local n = 0
      for digits in string.gmatch(all[i + 1], '%d+') do
        n = n + 1
        if n <= width then sum[n] = sum[n] + count(digits) end
      end
    elseif all[i] == 'last' and string.match(all[i + 1], '^%d+$') then
      last = instant('last')
    end
  end
  return { last and math.max(0, now - last) or -1, unpack(sum) }
end

if op == 'reset' then
  redis.call('DEL', key)
  redis.call('HSET', key, 'reset', whole(now))
  redis.call('PEXPIRE', key, ARGV[2])
  return now
end

if op == 'mark' then
  redis.call('HSET', key, ARGV[3], ARGV[4])
  redis.call('PEXPIRE', key, ARGV[2])
  return 1
end

if op == 'resets' then return redis.call('HGETALL', key) end

if op == 'push' then
  for i = 4, #ARGV do redis.call('LPUSH', key, ARGV[i]) end
  redis.call('LTRIM', key, 0, ARGV[3] - 1)
  redis.call('PEXPIRE', key, ARGV[2])
  return 1
end

return redis.call('LRANGE', key, 0, ARGV[2] - 1)
