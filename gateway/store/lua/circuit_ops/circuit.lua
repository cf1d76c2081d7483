
-- A circuit: how it is read and written, and the transitions that are due.
--
-- The key is a hash with these fields:
--   state, generation, cause, failures    as in `CircuitSnapshot`
--   opened_at                             when the circuit opened, 0 when it is closed
--   retry_at                              when the open time or the force ends
--   forced_for, probe_time                the seconds of the force, and of the latest lease of a probe
--   max_probes, successes                 of a half-open circuit
--   suspected_at                          when the suspicion began, while there is one
--   success_at                            the latest success of the replicas that are gone
--   reached_at                            when a replica that was asked to try last got a connection
--   replica:{id}                          the evidence of that replica: the numbers named below, separated by spaces
--   word:{id}                             until when that replica counts as cut off; 0 when it got a connection
--   probe:{token}                         when the lease lapses; a token is {id}/{life}/{number}

-- The numbers of a replica's evidence: when it reported; the counts of its window; its last success and its last
-- failure without a connection, 0 for none; then its consecutive failures, the newest first.
local SEEN, CALLS, FAILURES, SLOW_CALLS, UNREACHED, SUCCESS_AT, UNREACHED_AT, FIRST_FAILURE = 1, 2, 3, 4, 5, 6, 7, 8

local STATES = { closed = true, open = true, half_open = true, forced_open = true, forced_closed = true }
local circuit, evidence, words, probes, found = {}, {}, {}, {}, false
local set_back = {} -- the replicas whose evidence has instants that lay in the future
local fields = read(key)
for i = 1, #fields, 2 do
  if fields[i] == 'state' then found = STATES[fields[i + 1]] end
end
if #fields > 0 and not found then
  redis.call('DEL', key)
  fields, found = {}, false
end
for i = 1, #fields, 2 do
  local name, value = fields[i], fields[i + 1]
  if string.sub(name, 1, 8) == 'replica:' then
    local numbers, sound = {}, true
    for text in string.gmatch(value, '%S+') do
      local at = #numbers + 1
      local is_count = at >= CALLS and at <= UNREACHED
      local read_number = number(text, 0, is_count and MOST or FAR)
      sound = sound and read_number ~= nil
      if read_number and not is_count and read_number > now then
        read_number, set_back[string.sub(name, 9)] = now, true
      end
      numbers[at] = read_number or 0
    end
    -- Evidence that is broken, or that another version of this script wrote with fewer numbers, is dropped.
    if sound and #numbers >= UNREACHED_AT then
      evidence[string.sub(name, 9)] = numbers
    else
      redis.call('HDEL', key, name)
    end
  elseif string.sub(name, 1, 5) == 'word:' then
    words[string.sub(name, 6)] = number(value, 0, FAR)
  elseif string.sub(name, 1, 6) == 'probe:' then
    probes[string.sub(name, 7)] = number(value, 0, FAR) or 0
  else
    circuit[name] = value
  end
end
local generation = number(circuit.generation, 0, FAR / 2) or 0
if found and generation < 1 then
  redis.call('DEL', key)
  circuit, evidence, words, probes, found, generation, set_back = {}, {}, {}, {}, false, 0, {}
end
for name, least in pairs({ failures = 0, successes = 0, max_probes = 1 }) do
  if circuit[name] then
    circuit[name] = string.format('%.0f', number(circuit[name], least, MOST) or least)
  end
end
local retry_at = number(circuit.retry_at, 0, FAR) or 0
local changed = false -- whether this call made a transition or began a suspicion

-- The replica that a probe's token belongs to.
local function holder(token)
  return string.match(token, '^(.*)/[^/]*/[^/]*$')
end

-- The replica that asks.
local replica
if ARGV[1] == 'report' then
  replica = ARGV[2]
elseif ARGV[1] == 'lease' or ARGV[1] == 'settle' then
  replica = holder(ARGV[2])
elseif ARGV[1] == 'force' then
  replica = ARGV[5]
end

-- Write the evidence of a replica.
local function note(id, numbers)
  local packed = {}
  for i, value in ipairs(numbers) do
    packed[i] = (i == SEEN or i >= SUCCESS_AT) and instant(value) or tostring(value)
  end
  evidence[id] = numbers
  redis.call('HSET', key, 'replica:' .. id, table.concat(packed, ' '))
end

-- Make a transition, which begins a new generation.
local function enter(state, cause, until_, failures, opened_at)
  generation = generation > 0 and generation + 1 or math.floor(now * 1000)
  retry_at, words, probes, changed = until_, {}, {}, true
  circuit = { state = state, cause = cause, failures = tostring(failures) }
  redis.call('DEL', key)
  redis.call('HSET', key, 'state', state, 'failures', failures, 'opened_at', instant(opened_at), 'retry_at',
    instant(until_), 'generation', string.format('%.0f', generation), 'cause', cause)
  -- The new generation still knows who is there. So the first replica to report in it is not taken for the only one.
  for id, numbers in pairs(evidence) do
    note(id, { numbers[SEEN], 0, 0, 0, 0, 0, 0 })
  end
end

-- Write a field of the circuit, if it changes.
local function set(name, value)
  if circuit[name] ~= value then
    circuit[name] = value
    redis.call('HSET', key, name, value)
  end
end

-- Remove a field of the circuit.
local function unset(name)
  if circuit[name] then
    circuit[name] = nil
    redis.call('HDEL', key, name)
  end
end

-- Note until when a replica counts as cut off; 0 when it got a connection.
local function set_word(id, until_)
  words[id] = until_
  redis.call('HSET', key, 'word:' .. id, instant(until_))
end

-- Remove the words whose time is over at `instant_`.
local function drop_words(instant_)
  for id, until_ in pairs(words) do
    if until_ <= instant_ then
      words[id] = nil
      redis.call('HDEL', key, 'word:' .. id)
    end
  end
end

-- Drop the replicas that have not reported for LIVE seconds, and return them. Their latest success is kept.
local function drop_dead()
  local gone = {}
  for id, numbers in pairs(evidence) do
    if numbers[SEEN] <= now - LIVE then
      gone[id] = true
      evidence[id] = nil
      redis.call('HDEL', key, 'replica:' .. id)
      if numbers[SUCCESS_AT] > (tonumber(circuit.success_at) or 0) then
        set('success_at', instant(numbers[SUCCESS_AT]))
      end
    end
  end
  return gone
end

-- A replica got no connection while the circuit is half-open. When each of them is cut off, the circuit opens again.
local function cut_off(id, reset_timeout)
  drop_words(now)
  set_word(id, now + reset_timeout)
  for other in pairs(evidence) do
    if not words[other] then
      return
    end
  end
  enter('open', 'a probe failed', now + reset_timeout, (tonumber(circuit.failures) or 0) + 1, now)
end

-- The instant until which a half-open circuit is open for the replica that asks; 0 when it is not.
local function cut_off_until()
  return circuit.state == 'half_open' and replica and words[replica] or 0
end

-- The circuit as the replica is to see it: known, state, generation, failures, seconds to wait, cause, whether it has
-- changed, and the flag. The flag is 1 when a probe is granted. In the answer to a report it is the sum of 1 when the
-- replica is asked to try whether it gets a connection, and 2 when its failures are denied.
local function answer(flag)
  local wait = math.max(0, retry_at - now)
  local state, cause = circuit.state or 'closed', circuit.cause or ''
  if circuit.state == 'closed' then
    wait = 0
    if circuit.suspected_at then
      -- A suspicion that waits for a try does not make the replicas read the circuit all the time.
      local left = tonumber(circuit.suspected_at) + CONFIRM - now
      wait = left < CONFIRM - CONFIRM_AT_MOST and CONFIRM or math.max(0.01, left)
    end
  elseif circuit.state == 'half_open' then
    wait = 0
    local out, first = 0, math.huge
    for _, lapses in pairs(probes) do
      out, first = out + 1, math.min(first, lapses)
    end
    if out >= (tonumber(circuit.max_probes) or 1) then
      wait = math.max(0, first - now)
    end
    if cut_off_until() > now then
      state, wait, cause = 'open', cut_off_until() - now, 'no connection from this replica'
    end
  end
  return {
    found and 1 or 0, state, string.format('%.0f', generation), tonumber(circuit.failures) or 0, instant(wait), cause,
    changed and 1 or 0, flag,
  }
end

-- Keep the key for so many seconds, and for longer when something in it matters for longer.
local function keep(seconds)
  redis.call('EXPIRE', key, math.ceil(math.max(seconds, KEEP, retry_at - now + KEEP)))
end

-- Let the instant in a field be no later than `latest`. The clock may have been set back since it was written.
local function hold_to(name, latest)
  local at = number(circuit[name], 0, FAR)
  if circuit[name] and not at and name ~= 'retry_at' then
    unset(name)
  elseif circuit[name] and (not at or at > latest) then
    set(name, instant(latest))
  end
end

-- The reset_timeout of the replica that asks, in the operations that tell it.
local asked_timeout
if ARGV[1] == 'report' then
  asked_timeout = tonumber(ARGV[10])
elseif ARGV[1] == 'settle' and ARGV[4] ~= 'ignored' then
  asked_timeout = tonumber(ARGV[6])
end
if found then
  for id in pairs(set_back) do
    if evidence[id] then note(id, evidence[id]) end
  end
  for _, name in ipairs({ 'opened_at', 'suspected_at', 'success_at', 'reached_at' }) do
    hold_to(name, now)
  end
  local latest
  if circuit.state == 'forced_open' or circuit.state == 'forced_closed' then
    latest = now + (number(circuit.forced_for, 0, LONGEST_FORCE) or LONGEST_FORCE)
  elseif circuit.state == 'open' and asked_timeout then
    latest = now + asked_timeout
  end
  if latest then
    hold_to('retry_at', latest)
    retry_at = number(circuit.retry_at, 0, FAR) or 0
  end
  if asked_timeout then
    for id, until_ in pairs(words) do
      if until_ > now + asked_timeout then set_word(id, now + asked_timeout) end
    end
  end
  local probe_time = number(circuit.probe_time, 0, LONGEST_PROBE) or LONGEST_PROBE
  for token, lapses in pairs(probes) do
    if lapses > now + probe_time then
      probes[token] = now + probe_time
      redis.call('HSET', key, 'probe:' .. token, instant(now + probe_time))
    end
  end
end

-- The transitions that are due, and the probes that are given up.
if circuit.state == 'open' and now >= retry_at then
  local failures, opened_at = circuit.failures, tonumber(circuit.opened_at)
  enter('half_open', 'probing', 0, failures, opened_at)
elseif (circuit.state == 'forced_open' or circuit.state == 'forced_closed') and now >= retry_at then
  enter('closed', 'force expired', 0, 0, 0)
end
local gone = found and circuit.state ~= 'closed' and drop_dead() or {}
for token, lapses in pairs(probes) do
  if lapses <= now or gone[holder(token) or ''] then
    probes[token] = nil
    redis.call('HDEL', key, 'probe:' .. token)
  end
end
