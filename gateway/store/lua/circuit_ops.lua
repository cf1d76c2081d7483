-- One circuit of the fleet, or the list of live replicas: KEYS[1] is the only key touched, ARGV[1] names the operation.
--
-- A circuit is a hash: state, failures, opened_at, retry_at (end of the open time or of the force), generation, cause,
-- successes (half-open), suspected_at, success_at (latest of the replicas that are gone), forced_for (seconds of the force), probe_time (seconds of a lease), reached_at (when a replica that
-- was asked could last connect), replica:{id} (that replica's evidence: seen calls failures slow_calls
-- unreached success_at unreached_at failure_at...), word:{id} (until when that replica counts as cut off, 0: it is not), probe:{token} (when
-- the lease lapses; a token is {id}/{life}/{number}). Instants are seconds of this server's clock.
--
-- Nothing in it is believed that cannot be meant: a key of another type, an unknown state or generation is no circuit,
-- numbers that are none count as nothing, and instants are held to what their settings allow, since the clock may have
-- been set back.
--
-- The rules are those of gateway/store/memory/circuit.py, which explains them; one conformance suite holds the two
-- together. Evidence of another generation is ignored, and every transition begins a new one.

local FAR, MOST, LONGEST_FORCE, LONGEST_PROBE = 2^53, 1000000, 86400, 3700
local FIELDS, UNREACHED, SUCCESS_AT, UNREACHED_AT, FIRST_FAILURE = 7, 5, 6, 7, 8
local LIVE, CONFIRM, CONFIRM_AT_MOST, KEEP, BEAT = 2.0, 0.07, 0.12, 60, 0.25

local key = KEYS[1]
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000

local function instant(seconds)
  return string.format('%.6f', seconds)
end

-- A number that can be meant, or nil: `tonumber` takes nan and inf for numbers.
local function number(text, least, most)
  local found = tonumber(text)
  return found and found >= least and found <= most and found or nil
end

-- A key of another type is nobody's, and a circuit in a state that there is not is none.
local function read(key)
  local fields = redis.pcall('HGETALL', key)
  if fields.err then
    redis.call('DEL', key)
    return {}
  end
  return fields
end

if ARGV[1] == 'beat' or ARGV[1] == 'leave' then
  -- ARGV: replica, 1 when a circuit has changed. Fields: {replica} = last heartbeat, :version, :epoch.
  local replica, changed = ARGV[2], ARGV[3] == '1'
  if ARGV[1] == 'leave' then
    redis.pcall('HDEL', key, replica)
    return 0
  end
  local replicas, version, epoch = 0, 0, nil
  local fields, beat = read(key), nil
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == ':version' then
      version = number(value, 0, FAR)
      if not version or version ~= math.floor(version) then
        -- HINCRBY would not take it either. Anything else than before makes everybody read everything.
        version = math.floor(now * 1000)
        redis.call('HSET', key, name, string.format('%.0f', version))
      end
    elseif name == ':epoch' then
      epoch = number(value, 1, FAR)
    else
      local seen = number(value, 0, FAR)
      if seen and seen > now then
        -- The clock was set back: whoever is there will say so again.
        seen = now
        redis.call('HSET', key, name, instant(now))
      end
      if name == replica then
        beat = seen
      elseif seen and seen > now - LIVE then
        replicas = replicas + 1
      else
        redis.call('HDEL', key, name)
      end
    end
  end
  replicas = replicas + 1
  if (beat or 0) <= now - BEAT then
    redis.call('HSET', key, replica, instant(now))
    redis.call('EXPIRE', key, KEEP)
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

local STATES = { closed = true, open = true, half_open = true, forced_open = true, forced_closed = true }
local circuit, evidence, words, probes, found = {}, {}, {}, {}, false
local set_back = {}
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
      local counted = at > 1 and at < SUCCESS_AT
      local found = number(text, 0, counted and MOST or FAR)
      sound = sound and found ~= nil
      if found and not counted and found > now then
        found, set_back[string.sub(name, 9)] = now, true
      end
      numbers[at] = found or 0
    end
    -- Of another version of this script with less in it, or nonsense: its replica is as if it were not there.
    if sound and #numbers >= FIELDS then
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
local changed = false

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

local function note(id, numbers)
  local packed = {}
  for i, number in ipairs(numbers) do
    packed[i] = (i == 1 or i >= SUCCESS_AT) and instant(number) or tostring(number)
  end
  evidence[id] = numbers
  redis.call('HSET', key, 'replica:' .. id, table.concat(packed, ' '))
end

local function enter(state, cause, until_, failures, opened_at)
  generation = generation > 0 and generation + 1 or math.floor(now * 1000)
  retry_at, words, probes, changed = until_, {}, {}, true
  circuit = { state = state, cause = cause, failures = tostring(failures) }
  redis.call('DEL', key)
  redis.call('HSET', key, 'state', state, 'failures', failures, 'opened_at', instant(opened_at), 'retry_at',
    instant(until_), 'generation', string.format('%.0f', generation), 'cause', cause)
  -- Who is there remains: the first to report in the new generation is not alone for that.
  for id, numbers in pairs(evidence) do
    note(id, { numbers[1], 0, 0, 0, 0, 0, 0 })
  end
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

local function say(id, until_)
  words[id] = until_
  redis.call('HSET', key, 'word:' .. id, instant(until_))
end

local function unsay(still)
  for id, until_ in pairs(words) do
    if until_ <= still then
      words[id] = nil
      redis.call('HDEL', key, 'word:' .. id)
    end
  end
end

local function drop_dead()
  local gone = {}
  for id, numbers in pairs(evidence) do
    if numbers[1] <= now - LIVE then
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

-- A half-open circuit hears that a replica got no connection.
local function cut_off(id, reset_timeout)
  unsay(now)
  say(id, now + reset_timeout)
  for other in pairs(evidence) do
    if not words[other] then
      return
    end
  end
  enter('open', 'a probe failed', now + reset_timeout, (tonumber(circuit.failures) or 0) + 1, now)
end

local function cut_off_until()
  return circuit.state == 'half_open' and replica and words[replica] or 0
end

-- said: 1 when a probe is granted, or the replica asked for its word; 2 when its failures are denied.
local function answer(said)
  local wait = math.max(0, retry_at - now)
  local state, cause = circuit.state or 'closed', circuit.cause or ''
  if circuit.state == 'closed' then
    wait = 0
    if circuit.suspected_at then
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
    changed and 1 or 0, said,
  }
end

local function keep(seconds)
  redis.call('EXPIRE', key, math.ceil(math.max(seconds, KEEP, retry_at - now + KEEP)))
end

-- No instant is later than what set it allows, whatever the clock has done since.
local function hold_to(name, latest)
  local at = number(circuit[name], 0, FAR)
  if circuit[name] and not at and name ~= 'retry_at' then
    unset(name)
  elseif circuit[name] and (not at or at > latest) then
    set(name, instant(latest))
  end
end

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
      if until_ > now + asked_timeout then say(id, now + asked_timeout) end
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

-- What the clock has brought about.
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

if ARGV[1] == 'reset' then
  redis.call('DEL', key)
  return answer(0)
end

if ARGV[1] == 'force' then
  -- ARGV: state or '' to release, seconds, cause, replica
  local state, seconds, cause = ARGV[2], tonumber(ARGV[3]), ARGV[4]
  if state ~= '' then
    enter(state, cause, now + seconds, tonumber(circuit.failures) or 0, state == 'forced_open' and now or 0)
    set('forced_for', instant(seconds))
    keep(0)
  elseif circuit.state == 'forced_open' or circuit.state == 'forced_closed' then
    enter('closed', 'force released', 0, 0, 0)
    keep(0)
  end
  return answer(0)
end

if ARGV[1] == 'lease' then
  -- ARGV: token, seconds, max_probes, keep
  local token, seconds, max_probes = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
  if circuit.state ~= 'half_open' then
    return answer(0)
  end
  set('max_probes', ARGV[4])
  set('probe_time', ARGV[3])
  local out = 0
  for _ in pairs(probes) do
    out = out + 1
  end
  local granted = out < max_probes and cut_off_until() <= now
  if granted then
    probes[token] = now + seconds
    redis.call('HSET', key, 'probe:' .. token, instant(now + seconds))
  end
  keep(tonumber(ARGV[5]))
  return answer(granted and 1 or 0)
end

if ARGV[1] == 'settle' then
  -- ARGV: token, generation (0: whichever), outcome, success_threshold, reset_timeout, keep, 0 if it got no connection
  local token, of, outcome = ARGV[2], tonumber(ARGV[3]), ARGV[4]
  if circuit.state ~= 'half_open' or (of ~= 0 and of ~= generation) or not probes[token] then
    return answer(0)
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
  elseif outcome == 'failure' and ARGV[8] == '0' then
    cut_off(replica, tonumber(ARGV[6]))
  elseif outcome == 'failure' then
    enter('open', 'a probe failed', now + tonumber(ARGV[6]), (tonumber(circuit.failures) or 0) + 1, now)
  end
  keep(tonumber(ARGV[7]))
  return answer(0)
end

-- report. ARGV: replica, generation, keep, settings (failure_threshold, failure_rate_threshold, slow-call rule on,
-- slow_call_rate_threshold, minimum_calls, reset_timeout), then evidence (calls, failures, slow_calls, success_age or
-- -1, 1 if all of its failures were answers, unreached_age or -1, unreached, its word or -1, failure_age...)
local threshold, minimum, reset_timeout = tonumber(ARGV[5]), tonumber(ARGV[9]), tonumber(ARGV[10])
local failure_rate, slow_on, slow_rate = tonumber(ARGV[6]), ARGV[7] == '1', tonumber(ARGV[8])
local word = ARGV[18]

if not found then
  enter('closed', '', 0, 0, 0)
end

local current = tonumber(ARGV[3]) == generation
if circuit.state == 'closed' or not evidence[replica] or evidence[replica][1] <= now - BEAT then
  -- About another generation it has nothing to say, but it is there to be asked.
  local own = { now, 0, 0, 0, 0, 0, 0 }
  if current and circuit.state == 'closed' then
    local success_age, unreached_age = tonumber(ARGV[14]), tonumber(ARGV[16])
    own = {
      now, tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[17]),
      success_age >= 0 and now - success_age or 0, unreached_age >= 0 and now - unreached_age or 0,
    }
    for i = 19, #ARGV do
      own[#own + 1] = now - tonumber(ARGV[i])
    end
  end
  note(replica, own)
end

if current and word ~= '-1' then
  if circuit.state == 'half_open' and word == '0' then
    cut_off(replica, reset_timeout)
  elseif circuit.state == 'half_open' then
    say(replica, 0)
  elseif circuit.state == 'closed' then
    say(replica, word == '0' and now + reset_timeout or 0)
    if word == '1' then
      set('reached_at', instant(now))
    end
  end
end

local said = 0
if circuit.state == 'half_open' and not words[replica] then
  for _, until_ in pairs(words) do
    if until_ > now then said = 1 end
  end
end

if circuit.state == 'closed' then
  drop_dead()
  local reached_at = tonumber(circuit.reached_at) or 0

  local function success_elsewhere(id)
    local success_at = tonumber(circuit.success_at) or 0
    for other, theirs in pairs(evidence) do
      if other ~= id then
        success_at = math.max(success_at, theirs[SUCCESS_AT])
      end
    end
    return success_at
  end

  -- A replica's failures are later than its own success by construction; against those of others, instants decide.
  -- Doubtful is whose failures had no connection; if there is but one, it takes a witness.
  local consecutive, newest, own_consecutive, firm = 0, 0, 0, 0
  local doubtful, doubts = {}, 0
  for id, numbers in pairs(evidence) do
    local success_at = success_elsewhere(id)
    local run, last = 0, 0
    for i = FIRST_FAILURE, #numbers do
      if numbers[i] > success_at then
        run, last = run + 1, math.max(last, numbers[i])
      end
    end
    if run > 0 then
      local firmly = numbers[UNREACHED_AT] < numbers[#numbers]
      if not firmly then
        doubtful[id], doubts = true, doubts + 1
      end
      if firmly or numbers[FIRST_FAILURE] > reached_at then
        consecutive, newest = consecutive + run, math.max(newest, last)
      end
      if firmly then firm = firm + run end
      if id == replica then own_consecutive = run end
    end
  end

  -- What counts for a rate: everything but what is denied, or, `certainly`, but what is doubtful.
  local function totals(certainly)
    local total, counted = { 0, 0, 0, 0 }, {}
    for _, numbers in pairs(evidence) do
      local out = (certainly or numbers[UNREACHED_AT] <= reached_at) and numbers[UNREACHED] or 0
      local own = { 0, numbers[2] - out, numbers[3] - out, numbers[4] }
      counted[#counted + 1] = own
      for i = 2, 4 do
        total[i] = total[i] + own[i]
      end
    end
    return total, counted
  end

  -- A rate holds unless all replicas but one have calls enough between them to say that it does not.
  local function rate_holds(which, limit, certainly)
    local total, counted = totals(certainly)
    if total[2] < minimum or total[which] / total[2] < limit then
      return false
    end
    for _, numbers in ipairs(counted) do
      local calls = total[2] - numbers[2]
      if calls >= minimum and (total[which] - numbers[which]) / calls < limit then
        return false
      end
    end
    return true
  end

  local cause, failures, since = nil, 0, now
  if consecutive >= threshold then
    cause, failures, since = threshold .. ' consecutive failures', consecutive, newest
    firm = firm >= threshold
  else
    doubtful, doubts = {}, 0
    for id, numbers in pairs(evidence) do
      if numbers[UNREACHED] > 0 then
        doubtful[id], doubts = true, doubts + 1
      end
    end
    local total = totals(false)
    failures = total[3]
    if rate_holds(3, failure_rate, false) then
      cause = total[3] .. ' of the last ' .. total[2] .. ' calls failed'
      firm = rate_holds(3, failure_rate, true)
    elseif slow_on and rate_holds(4, slow_rate, false) then
      cause = total[4] .. ' of the last ' .. total[2] .. ' calls were slow'
      firm = rate_holds(4, slow_rate, true)
    end
  end

  if not cause then
    unset('suspected_at')
    unsay(math.huge)
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
    local lone = doubts == 1 and not firm
    local witnessed = not lone
    for id, until_ in pairs(words) do
      witnessed = witnessed or (until_ > now and not doubtful[id])
    end
    local confirmed = waited >= CONFIRM_AT_MOST or (heard and waited >= CONFIRM)
    if alone or certain or (witnessed and confirmed) then
      since = math.min(since, now)
      enter('open', cause, since + reset_timeout, failures, since)
    else
      if not suspected_at then
        set('failures', tostring(failures))
        set('suspected_at', instant(now))
        unsay(math.huge)
        changed = true
      end
      if lone and not doubtful[replica] and not words[replica] then
        said = 1
      end
    end
  end

  local own = evidence[replica]
  if own and circuit.state == 'closed' and #own >= FIRST_FAILURE and own[UNREACHED_AT] >= own[#own]
    and own[UNREACHED_AT] <= math.max(reached_at, success_elsewhere(replica)) then
    said = 2
  end
end

keep(tonumber(ARGV[4]))
return answer(said)
