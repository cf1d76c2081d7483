-- One circuit of the fleet, or the list of live replicas: KEYS[1] is the only key touched, ARGV[1] names the operation.
--
-- A circuit is a hash: state, failures, opened_at, retry_at (end of the open time or of the force), generation, cause,
-- successes (half-open), suspected_at, success_at (latest of the replicas that are gone), replica:{id} (that replica's
-- evidence: seen calls failures slow_calls success_at failure_at...), probe:{token} (when the lease lapses). Instants are
-- seconds of this server's clock.
--
-- The rules are those of gateway/store/memory_circuits.py, which explains them; one conformance suite holds the two
-- together. Evidence of another generation is ignored, and every transition begins a new one.

local LIVE, CONFIRM, CONFIRM_AT_MOST, KEEP, BEAT = 2.0, 0.07, 0.12, 60, 0.25

local key = KEYS[1]
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000

local function instant(seconds)
  return string.format('%.6f', seconds)
end

if ARGV[1] == 'beat' or ARGV[1] == 'leave' then
  -- ARGV: replica, 1 when a circuit has changed. Fields: {replica} = last heartbeat, :version, :epoch.
  local replica, changed = ARGV[2], ARGV[3] == '1'
  if ARGV[1] == 'leave' then
    redis.call('HDEL', key, replica)
    return 0
  end
  local replicas, version, epoch = 0, 0, nil
  if (tonumber(redis.call('HGET', key, replica)) or 0) <= now - BEAT then
    redis.call('HSET', key, replica, instant(now))
    redis.call('EXPIRE', key, KEEP)
  end
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == ':version' then
      version = tonumber(value)
    elseif name == ':epoch' then
      epoch = tonumber(value)
    elseif tonumber(value) > now - LIVE then
      replicas = replicas + 1
    else
      redis.call('HDEL', key, name)
    end
  end
  if not epoch then
    epoch = math.floor(now * 1000000)
    redis.call('HSET', key, ':epoch', string.format('%.0f', epoch))
  end
  if changed then
    version = redis.call('HINCRBY', key, ':version', 1)
  end
  return { replicas, version, epoch }
end

local circuit, evidence, probes, found = {}, {}, {}, false
local fields = redis.call('HGETALL', key)
for i = 1, #fields, 2 do
  local name, value = fields[i], fields[i + 1]
  found = true
  if string.sub(name, 1, 8) == 'replica:' then
    local numbers = {}
    for number in string.gmatch(value, '%S+') do
      numbers[#numbers + 1] = tonumber(number)
    end
    evidence[string.sub(name, 9)] = numbers
  elseif string.sub(name, 1, 6) == 'probe:' then
    probes[string.sub(name, 7)] = tonumber(value)
  else
    circuit[name] = value
  end
end
local generation = tonumber(circuit.generation) or 0
local retry_at = tonumber(circuit.retry_at) or 0
local changed = false

local function enter(state, cause, until_, failures, opened_at)
  generation = generation > 0 and generation + 1 or math.floor(now * 1000)
  retry_at, evidence, probes, changed = until_, {}, {}, true
  circuit = { state = state, cause = cause, failures = tostring(failures) }
  redis.call('DEL', key)
  redis.call('HSET', key, 'state', state, 'failures', failures, 'opened_at', instant(opened_at), 'retry_at',
    instant(until_), 'generation', string.format('%.0f', generation), 'cause', cause)
end

local function set(name, value)
  if circuit[name] ~= value then
    circuit[name] = value
    redis.call('HSET', key, name, value)
  end
end

local function unset(name)
  if circuit[name] then
    circuit[name] = nil
    redis.call('HDEL', key, name)
  end
end

local function answer(granted)
  local wait = math.max(0, retry_at - now)
  if circuit.state == 'closed' then
    wait = circuit.suspected_at and math.max(0.01, tonumber(circuit.suspected_at) + CONFIRM - now) or 0
  elseif circuit.state == 'half_open' then
    wait = 0
    local out, first = 0, math.huge
    for _, lapses in pairs(probes) do
      out, first = out + 1, math.min(first, lapses)
    end
    if out >= (tonumber(circuit.max_probes) or 1) then
      wait = math.max(0, first - now)
    end
  end
  return {
    found and 1 or 0, circuit.state or 'closed', string.format('%.0f', generation), tonumber(circuit.failures) or 0,
    instant(wait), circuit.cause or '', changed and 1 or 0, granted and 1 or 0,
  }
end

local function keep(seconds)
  redis.call('EXPIRE', key, math.ceil(math.max(seconds, retry_at - now + KEEP)))
end

-- What the clock has brought about.
if circuit.state == 'open' and now >= retry_at then
  local failures, opened_at = circuit.failures, tonumber(circuit.opened_at)
  enter('half_open', 'probing', 0, failures, opened_at)
elseif (circuit.state == 'forced_open' or circuit.state == 'forced_closed') and now >= retry_at then
  enter('closed', 'force expired', 0, 0, 0)
end
for token, lapses in pairs(probes) do
  if lapses <= now then
    probes[token] = nil
    redis.call('HDEL', key, 'probe:' .. token)
  end
end

if ARGV[1] == 'reset' then
  redis.call('DEL', key)
  return answer(false)
end

if ARGV[1] == 'force' then
  -- ARGV: state or '' to release, seconds, cause
  local state, seconds, cause = ARGV[2], tonumber(ARGV[3]), ARGV[4]
  if state ~= '' then
    enter(state, cause, now + seconds, tonumber(circuit.failures) or 0, state == 'forced_open' and now or 0)
    keep(0)
  elseif circuit.state == 'forced_open' or circuit.state == 'forced_closed' then
    enter('closed', 'force released', 0, 0, 0)
    keep(0)
  end
  return answer(false)
end

if ARGV[1] == 'lease' then
  -- ARGV: token, seconds, max_probes, keep
  local token, seconds, max_probes = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
  if circuit.state ~= 'half_open' then
    return answer(false)
  end
  set('max_probes', ARGV[4])
  local out = 0
  for _ in pairs(probes) do
    out = out + 1
  end
  local granted = out < max_probes
  if granted then
    probes[token] = now + seconds
    redis.call('HSET', key, 'probe:' .. token, instant(now + seconds))
  end
  keep(tonumber(ARGV[5]))
  return answer(granted)
end

if ARGV[1] == 'settle' then
  -- ARGV: token, generation (0: whichever), outcome, success_threshold, reset_timeout, keep
  local token, of, outcome = ARGV[2], tonumber(ARGV[3]), ARGV[4]
  if circuit.state ~= 'half_open' or (of ~= 0 and of ~= generation) or not probes[token] then
    return answer(false)
  end
  probes[token] = nil
  redis.call('HDEL', key, 'probe:' .. token)
  if outcome == 'success' then
    local successes = (tonumber(circuit.successes) or 0) + 1
    if successes >= tonumber(ARGV[5]) then
      enter('closed', successes .. ' probes succeeded', 0, 0, 0)
    else
      set('successes', tostring(successes))
    end
  elseif outcome == 'failure' then
    enter('open', 'a probe failed', now + tonumber(ARGV[6]), (tonumber(circuit.failures) or 0) + 1, now)
  end
  keep(tonumber(ARGV[7]))
  return answer(false)
end

-- report. ARGV: replica, generation, keep, settings (failure_threshold, failure_rate_threshold, slow-call rule on,
-- slow_call_rate_threshold, minimum_calls, reset_timeout), then evidence (calls, failures, slow_calls, success_age or
-- -1, 1 if all of its failures were answers, failure_age...)
local replica = ARGV[2]
local threshold, minimum, reset_timeout = tonumber(ARGV[5]), tonumber(ARGV[9]), tonumber(ARGV[10])
local failure_rate, slow_on, slow_rate = tonumber(ARGV[6]), ARGV[7] == '1', tonumber(ARGV[8])

if not found then
  enter('closed', '', 0, 0, 0)
end

if circuit.state == 'closed' then
  -- About another generation it has nothing to say, but it is there to be asked.
  local own = { now, 0, 0, 0, 0 }
  if tonumber(ARGV[3]) == generation then
    local age = tonumber(ARGV[14])
    own = { now, tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13]), age >= 0 and now - age or 0 }
    for i = 16, #ARGV do
      own[#own + 1] = now - tonumber(ARGV[i])
    end
  end
  evidence[replica] = own
  local packed = {}
  for i, number in ipairs(own) do
    packed[i] = (i == 1 or i >= 5) and instant(number) or tostring(number)
  end
  redis.call('HSET', key, 'replica:' .. replica, table.concat(packed, ' '))
end

if circuit.state == 'closed' then
  local totals = { calls = 0, failures = 0, slow = 0 }
  for id, numbers in pairs(evidence) do
    if numbers[1] <= now - LIVE then
      evidence[id] = nil
      redis.call('HDEL', key, 'replica:' .. id)
      if numbers[5] > (tonumber(circuit.success_at) or 0) then
        set('success_at', instant(numbers[5]))
      end
    else
      totals.calls = totals.calls + numbers[2]
      totals.failures = totals.failures + numbers[3]
      totals.slow = totals.slow + numbers[4]
    end
  end

  -- A replica's failures are later than its own success by construction; against those of others, instants decide.
  local consecutive, newest, own_consecutive = 0, 0, 0
  for id, numbers in pairs(evidence) do
    local success_at = tonumber(circuit.success_at) or 0
    for other, theirs in pairs(evidence) do
      if other ~= id then
        success_at = math.max(success_at, theirs[5])
      end
    end
    for i = 6, #numbers do
      if numbers[i] > success_at then
        consecutive, newest = consecutive + 1, math.max(newest, numbers[i])
        if id == replica then own_consecutive = own_consecutive + 1 end
      end
    end
  end

  -- A rate holds unless all replicas but one have calls enough between them to say that it does not.
  local function rate_holds(which, total, limit)
    if totals.calls < minimum or total / totals.calls < limit then
      return false
    end
    for _, numbers in pairs(evidence) do
      local calls = totals.calls - numbers[2]
      if calls >= minimum and (total - numbers[which]) / calls < limit then
        return false
      end
    end
    return true
  end

  local cause, failures, since = nil, 0, now
  if consecutive >= threshold then
    cause, failures, since = threshold .. ' consecutive failures', consecutive, newest
  elseif rate_holds(3, totals.failures, failure_rate) then
    cause, failures = totals.failures .. ' of the last ' .. totals.calls .. ' calls failed', totals.failures
  elseif slow_on and rate_holds(4, totals.slow, slow_rate) then
    cause, failures = totals.slow .. ' of the last ' .. totals.calls .. ' calls were slow', totals.failures
  end

  if not cause then
    unset('suspected_at')
    set('failures', tostring(consecutive))
  else
    local suspected_at = tonumber(circuit.suspected_at)
    local alone, heard = true, true
    for id, numbers in pairs(evidence) do
      alone = alone and id == replica
      heard = heard and suspected_at ~= nil and numbers[1] > suspected_at
    end
    local waited = suspected_at and now - suspected_at or 0
    local certain = ARGV[15] == '1' and own_consecutive >= threshold
    if alone or certain or waited >= CONFIRM_AT_MOST or (heard and waited >= CONFIRM) then
      enter('open', cause, since + reset_timeout, failures, since)
    elseif not suspected_at then
      set('failures', tostring(failures))
      set('suspected_at', instant(now))
      changed = true
    end
  end
end

keep(tonumber(ARGV[4]))
return answer(false)
