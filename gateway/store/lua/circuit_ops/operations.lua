
-- What is done to a circuit besides reporting about it. Each operation answers with the circuit as it is then.

-- reset. No arguments.
if ARGV[1] == 'reset' then
  redis.call('DEL', key)
  return answer(0)
end

-- force. ARGV: state or '' to release, seconds, cause, replica.
if ARGV[1] == 'force' then
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

-- lease. ARGV: token, seconds, max_probes, seconds to keep the key.
if ARGV[1] == 'lease' then
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

-- settle. ARGV: token, generation (0: any), outcome, success_threshold, reset_timeout, seconds to keep the key, and 0
-- when the probe got no connection.
if ARGV[1] == 'settle' then
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
