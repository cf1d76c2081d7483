-- One circuit of the fleet, or the list of the replicas that are there. This script is made of four files, which are
-- joined in this order: replicas, circuit, operations, report. Each operation returns from the file that is about it.
--
-- KEYS[1] is the only key that is touched. ARGV[1] names the operation: 'beat' and 'leave' are about the list of
-- replicas, 'reset', 'force', 'lease', 'settle' and 'report' about a circuit.
--
-- The script does what gateway/store/memory does. The rules are explained there, in circuit.py and circuit_evidence.py;
-- the conformance and property tests hold the two together. All instants are seconds of this server's clock.
--
-- Keys may hold anything: something written by another version, or by hand. A key of another type, or a circuit with an
-- unknown state or generation, is removed. A field that should be a number and is none counts as absent.

local KEEP = 60 -- seconds for which a key is kept at least after it was last written
local LIVE = 2.0 -- seconds after its last report for which a replica counts as there
local BEAT = 0.25 -- seconds between two notes that a replica is there
local CONFIRM, CONFIRM_AT_MOST = 0.07, 0.12 -- seconds until a suspicion is confirmed, see circuit.py
local FAR, MOST, LONGEST_FORCE, LONGEST_PROBE = 2^53, 1000000, 86400, 3700 -- larger numbers are not believed

local key = KEYS[1]
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000

-- Instants and durations are written with microseconds.
local function instant(seconds)
  return string.format('%.6f', seconds)
end

-- The number between `least` and `most` that the text is, or nil. `tonumber` alone takes 'nan' and 'inf' for numbers.
local function number(text, least, most)
  local found = tonumber(text)
  return found and found >= least and found <= most and found or nil
end

-- All fields and values of the key in turn. A key of another type is removed.
local function read(key)
  local fields = redis.pcall('HGETALL', key)
  if fields.err then
    remove_foreign(key, 'hash')
    return {}
  end
  return fields
end

-- leave. ARGV: replica.
if ARGV[1] == 'leave' then
  redis.pcall('HDEL', key, ARGV[2])
  return 0
end

-- beat. ARGV: replica, 1 when a circuit has changed. Answer: number of replicas, version, epoch (see `SyncAnswer`).
-- The key is a hash. Its fields are the replicas, each with the instant of its last beat, and ':version' and ':epoch'.
if ARGV[1] == 'beat' then
  local replica, changed = ARGV[2], ARGV[3] == '1'
  local others, version, epoch = 0, 0, nil
  local fields, beat = read(key), nil
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == ':version' then
      version = number(value, 0, FAR)
      if not version or version ~= math.floor(version) then
        -- HINCRBY would refuse it. Any version that is not the one before makes every replica read every circuit.
        version = math.floor(now * 1000)
        redis.call('HSET', key, name, string.format('%.0f', version))
      end
    elseif name == ':epoch' then
      epoch = number(value, 1, FAR)
    else
      local seen = number(value, 0, FAR)
      if seen and seen > now then
        -- The clock was set back. A replica that is there will soon beat again.
        seen = now
        redis.call('HSET', key, name, instant(now))
      end
      if name == replica then
        beat = seen
      elseif seen and seen > now - LIVE then
        others = others + 1
      else
        redis.call('HDEL', key, name)
      end
    end
  end
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
  return { others + 1, version, epoch }
end
