
-- report. A replica tells what it has seen, and the circuit opens when the evidence of the fleet says so.
--
-- ARGV: replica, generation, seconds to keep the key.
-- Settings: failure_threshold, failure_rate_threshold, 1 when the slow-call rule is on, slow_call_rate_threshold,
-- minimum_calls, reset_timeout.
-- Evidence: calls, failures, slow_calls, success_age or -1, 1 when all of its consecutive failures were answers,
-- unreached_age or -1, unreached, its word (1: it got a connection, 0: it did not, -1: it was not asked), and the age
-- of each consecutive failure.
local threshold, minimum, reset_timeout = tonumber(ARGV[5]), tonumber(ARGV[9]), tonumber(ARGV[10])
local limits = { [FAILURES] = tonumber(ARGV[6]), [SLOW_CALLS] = ARGV[7] == '1' and tonumber(ARGV[8]) or math.huge }
local word = ARGV[18]

if not found then
  enter('closed', '', 0, 0, 0)
end

local current = tonumber(ARGV[3]) == generation
if circuit.state == 'closed' or not evidence[replica] or evidence[replica][SEEN] <= now - BEAT then
  -- What is said about another generation is not evidence, but the replica is there and can be asked.
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
    set_word(replica, 0)
  elseif circuit.state == 'closed' then
    set_word(replica, word == '0' and now + reset_timeout or 0)
    if word == '1' then
      set('reached_at', instant(now))
    end
  end
end

if circuit.state ~= 'closed' then
  -- While a replica is cut off from a half-open circuit, the others are asked to try.
  local asked = 0
  if circuit.state == 'half_open' and not words[replica] then
    for _, until_ in pairs(words) do
      if until_ > now then asked = 1 end
    end
  end
  keep(tonumber(ARGV[4]))
  return answer(asked)
end

drop_dead()
local reached_at = tonumber(circuit.reached_at) or 0

-- The latest success of any replica but this one.
local function success_elsewhere(id)
  local success_at = tonumber(circuit.success_at) or 0
  for other, theirs in pairs(evidence) do
    if other ~= id then
      success_at = math.max(success_at, theirs[SUCCESS_AT])
    end
  end
  return success_at
end

-- Whether at least one of a replica's consecutive failures had no connection.
local function is_doubtful(numbers)
  return #numbers >= FIRST_FAILURE and numbers[UNREACHED_AT] >= numbers[#numbers]
end

-- The windows of all replicas. Left out are the calls without a connection that are known to be the fault of a
-- replica's own network or, with `certain`, all calls without a connection.
local function tallies(certain)
  local found_tallies = {}
  for _, numbers in pairs(evidence) do
    local out = (certain or numbers[UNREACHED_AT] <= reached_at) and numbers[UNREACHED] or 0
    found_tallies[#found_tallies + 1] = {
      [CALLS] = numbers[CALLS] - out, [FAILURES] = numbers[FAILURES] - out, [SLOW_CALLS] = numbers[SLOW_CALLS],
    }
  end
  return found_tallies
end

local function total(parts)
  local whole = { [CALLS] = 0, [FAILURES] = 0, [SLOW_CALLS] = 0 }
  for _, part in ipairs(parts) do
    for which, count in pairs(part) do
      whole[which] = whole[which] + count
    end
  end
  return whole
end

-- The rules of gateway/policy/verdict.py. tests/conformance/test_store_verdicts.py holds these lines to them.
-- A rate is the rate of all replicas together, and it must also hold without any single one of them when the others
-- have minimum_calls between them.
local function rate_holds(which, parts)
  local whole = total(parts)
  if whole[CALLS] < minimum or whole[which] / whole[CALLS] < limits[which] then
    return false
  end
  for _, part in ipairs(parts) do
    local calls = whole[CALLS] - part[CALLS]
    if calls >= minimum and (whole[which] - part[which]) / calls < limits[which] then
      return false
    end
  end
  return true
end

-- The consecutive failures of the fleet: those that are later than every success. The failures of a replica are later
-- than its own last success by construction. `certain_run` counts those of replicas that are not doubtful.
local consecutive, newest, own_run, certain_run = 0, 0, 0, 0
local doubtful_runs = {}
for id, numbers in pairs(evidence) do
  local success_at = success_elsewhere(id)
  local run, last = 0, 0
  for i = FIRST_FAILURE, #numbers do
    if numbers[i] > success_at then
      run, last = run + 1, math.max(last, numbers[i])
    end
  end
  if run > 0 then
    local doubtful = is_doubtful(numbers)
    if doubtful then doubtful_runs[id] = true else certain_run = certain_run + run end
    if not doubtful or numbers[FIRST_FAILURE] > reached_at then
      consecutive, newest = consecutive + run, math.max(newest, last)
    end
    if id == replica then own_run = run end
  end
end

-- The first rule that holds. `doubtful` are the replicas that have failures without a connection, and `firm` says that
-- the rule also holds without any failure that had no connection.
local cause, failures, since, firm, doubtful = nil, 0, now, false, {}
if consecutive >= threshold then
  cause, failures, since = threshold .. ' consecutive failures', consecutive, math.min(now, newest)
  doubtful, firm = doubtful_runs, certain_run >= threshold
else
  local counted = tallies(false)
  local whole = total(counted)
  for id, numbers in pairs(evidence) do
    if numbers[UNREACHED] > 0 then doubtful[id] = true end
  end
  if rate_holds(FAILURES, counted) then
    cause = whole[FAILURES] .. ' of the last ' .. whole[CALLS] .. ' calls failed'
    firm = rate_holds(FAILURES, tallies(true))
  elseif rate_holds(SLOW_CALLS, counted) then
    cause = whole[SLOW_CALLS] .. ' of the last ' .. whole[CALLS] .. ' calls were slow'
    firm = rate_holds(SLOW_CALLS, tallies(true))
  end
  failures = whole[FAILURES]
end

-- What comes of it: the table in gateway/store/memory/circuit.py.
local flag = 0
if not cause then
  unset('suspected_at')
  drop_words(math.huge)
  set('failures', tostring(consecutive))
else
  local suspected_at = tonumber(circuit.suspected_at)
  local alone, heard, doubts = true, true, 0
  for id, numbers in pairs(evidence) do
    alone = alone and id == replica
    heard = heard and suspected_at ~= nil and numbers[SEEN] > suspected_at
  end
  for _ in pairs(doubtful) do
    doubts = doubts + 1
  end
  local needs_second = doubts == 1 and not firm
  local believed = not needs_second
  for id, until_ in pairs(words) do
    believed = believed or (until_ > now and not doubtful[id])
  end
  local answered = ARGV[15] == '1' and own_run >= threshold
  local waited = suspected_at and now - suspected_at or 0
  local confirmed = waited >= CONFIRM_AT_MOST or (heard and waited >= CONFIRM)
  if alone or answered or (believed and confirmed) then
    enter('open', cause, since + reset_timeout, failures, since)
  else
    if not suspected_at then
      set('failures', tostring(failures))
      set('suspected_at', instant(now))
      drop_words(math.huge)
      changed = true
    end
    if needs_second and not doubtful[replica] and not words[replica] then
      flag = 1
    end
  end
end

local own = evidence[replica]
if own and circuit.state == 'closed' and is_doubtful(own)
  and own[UNREACHED_AT] <= math.max(reached_at, success_elsewhere(replica)) then
  flag = flag + 2
end

keep(tonumber(ARGV[4]))
return answer(flag)
