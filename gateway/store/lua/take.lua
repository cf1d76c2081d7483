-- Take tokens from many buckets, exactly as gateway/store/memory/buckets.py does it, which says why.
--
-- KEYS    one bucket each: a hash of `tokens`, `ts` (of the Redis clock, in microseconds) and, while there are any,
--         `leases`: "replica:amount:id," for each, in the order of their booking; the id is the time of the booking;
--         `told:{replica}` is the id of the last debt that this replica told.
-- ARGV    replica, lease time and hold time in microseconds, lease share, and nine big-endian doubles for each key:
--         capacity, refill rate (tokens per second), max ttl (seconds), want, lease, unspent, lease id, debt, debt id.
-- Answer  for each key: granted, leased, lease id, remaining (millionths, below zero if the bucket owes), retry after,
--         reset after, held elsewhere, held time; times in microseconds.
--
-- A bucket that is refused is not written: the same refill follows from what is there. A key of another type is
-- nobody's bucket and is removed, so that one such key cannot fail the calls of everybody else.

local ROUNDING = 1e-9

local replica = ARGV[1]
local lease_time, hold, share = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answer = {}

for k = 1, #KEYS do
  local key = KEYS[k]
  local capacity, rate, max_ttl, want, lease, unspent, lease_id, debt, debt_id =
    struct.unpack('>ddddddddd', ARGV[5], (k - 1) * 72 + 1)
  rate, max_ttl = rate / 1000000, max_ttl * 1000000

  local state = redis.pcall('HMGET', key, 'tokens', 'ts', 'leases')
  if state.err then
    remove_foreign(key, 'hash')
    state = {}
  end
  local tokens, ts = tonumber(state[1] or nil), tonumber(state[2] or nil)
  local write = false
  -- `tonumber` takes nan and inf for numbers; a bucket of nan would never refuse.
  if not (tokens and ts and math.abs(tokens) < 1e15 and math.abs(ts) < 1e18) then
    tokens, ts = capacity, now
  elseif now < ts then
    ts, write = now, true  -- the clock was set back
  end

  local leases, outstanding = {}, 0
  if state[3] then
    for holder, amount, id in string.gmatch(state[3], '([^:,]+):(%d+):(%d+),') do
      local booked = { holder = holder, amount = tonumber(amount), id = tonumber(id) }
      leases[#leases + 1] = booked
      outstanding = outstanding + booked.amount
    end
  end

  local kept, own = {}, nil
  for _, booked in ipairs(leases) do
    local lapses = booked.id + hold
    if lapses <= now then
      tokens = math.min(capacity - outstanding, tokens + math.max(0, lapses - ts) * rate)
      ts = math.max(ts, lapses)
      outstanding = outstanding - booked.amount
    elseif booked.id > now + hold then
      outstanding = outstanding - booked.amount  -- the clock was set back far
    else
      kept[#kept + 1] = booked
      if booked.holder == replica then own = booked end
    end
  end
  tokens = math.min(capacity - outstanding, tokens + (now - ts) * rate)

  local told = nil
  if debt ~= 0 then
    told = 'told:' .. replica
    if (tonumber(redis.call('HGET', key, told) or nil) or 0) < debt_id then
      tokens = math.max(math.min(tokens, -capacity), math.min(capacity - outstanding, tokens - debt))
      write = true
    end
  end
  local back, stands = 0, own ~= nil
  if own and own.id == lease_id then
    back = math.min(unspent, own.amount)
    tokens = tokens + back
    stands, write = false, true
  end
  local leased = lease > 0 and back or 0

  local free = tokens - leased + ROUNDING
  local granted = math.max(0, math.min(want, math.floor(free)))
  free = free - granted
  if lease > 0 and not stands then
    local room = math.min(math.floor(capacity / share) - leased, math.floor(free - capacity / 2))
    leased = leased + math.max(0, math.min(lease, room))
  end
  tokens = tokens - granted - leased

  local list, held, held_until, last = {}, 0, now, 0
  for _, booked in ipairs(kept) do
    if booked ~= own or stands then
      list[#list + 1] = string.format('%s:%d:%.0f,', booked.holder, booked.amount, booked.id)
      last = math.max(last, booked.id + hold)
    end
    if booked ~= own then
      held = held + booked.amount
      held_until = math.max(held_until, booked.id + lease_time)
    end
  end
  if leased > 0 then
    list[#list + 1] = string.format('%s:%d:%.0f,', replica, leased, now)
    last = now + hold
  end

  local reset = math.min((capacity - tokens) / rate, max_ttl)
  if write or granted > 0 or leased > 0 then
    if #list > 0 then
      redis.call('HSET', key, 'tokens', string.format('%.17g', tokens), 'ts', string.format('%.0f', now),
        'leases', table.concat(list))
    elseif tokens >= capacity then
      redis.call('DEL', key)
    else
      redis.call('HSET', key, 'tokens', string.format('%.17g', tokens), 'ts', string.format('%.0f', now))
      if state[3] then redis.call('HDEL', key, 'leases') end
    end
    if told and tokens < capacity then redis.call('HSET', key, told, string.format('%.0f', debt_id)) end
    if #list > 0 or tokens < capacity then
      redis.call('EXPIRE', key, string.format('%.0f', math.ceil(math.max(reset, last - now) / 1000000)))
    end
  end

  local n = #answer
  answer[n + 1] = granted
  answer[n + 2] = leased
  answer[n + 3] = leased > 0 and now or 0
  answer[n + 4] = math.floor(tokens * 1000000)
  answer[n + 5] = tokens < 1 and math.ceil(math.min((1 - tokens) / rate, max_ttl)) or 0
  answer[n + 6] = math.max(0, math.ceil(reset))
  answer[n + 7] = held
  answer[n + 8] = held_until - now
end

return answer
