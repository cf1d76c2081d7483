-- API keys, exactly as gateway/store/memory/keys.py does it. Every call has one key, so that a cluster may have them
-- in different slots.
--
-- KEYS[1]  for `read`, `write`, `expire`, `drop`: the record of a key, a hash
--          for `reserve`, `release`, `all`: the index, a hash of `{consumer} {not_after}` by id; not_after 0 is for ever
--          for `changed`, `changes`: the changes, a sorted set of ids by the ms of the Redis clock
-- ARGV     operation, then
--   read      -> sha256, consumer, tenant, scopes, not_after, created_at (nil where there is none)
--   write     field, value, ...
--   expire    not_after: only ever sooner -> 1, or 0 without a record
--   drop      -> 1: it was there
--   reserve   id, consumer, not_after, most -> 1, or 0 when the consumer has `most` that are good, or the id is taken
--   release   id -> 1: it was there
--   shorten   id, not_after
--   all       -> id, entry, ...
--   changed   id, kept in ms
--   changes   kept in ms -> id, ms of the Redis clock, ...

local key, op = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000

-- A key of another type holds nothing of ours, and must not make every call fail.
remove_foreign(key, (op == 'changed' or op == 'changes') and 'zset' or 'hash')

if op == 'read' then
  return redis.call('HMGET', key, 'sha256', 'consumer', 'tenant', 'scopes', 'not_after', 'created_at')
elseif op == 'write' then
  redis.call('HSET', key, unpack(ARGV, 2))
  return 1
elseif op == 'expire' then
  if redis.call('EXISTS', key) == 0 then return 0 end
  local till = tonumber(redis.call('HGET', key, 'not_after') or '0') or 0
  if till == 0 or tonumber(ARGV[2]) < till then redis.call('HSET', key, 'not_after', ARGV[2]) end
  return 1
elseif op == 'drop' then
  return redis.call('DEL', key)
elseif op == 'reserve' then
  if redis.call('HEXISTS', key, ARGV[2]) == 1 then return 0 end
  local live = 0
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local consumer, till = string.match(all[i + 1], '^(%S+) (%S+)$')
    if consumer == ARGV[3] and (till == '0' or tonumber(till) > now) then live = live + 1 end
  end
  if live >= tonumber(ARGV[5]) then return 0 end
  redis.call('HSET', key, ARGV[2], ARGV[3] .. ' ' .. ARGV[4])
  return 1
elseif op == 'release' then
  return redis.call('HDEL', key, ARGV[2])
elseif op == 'shorten' then
  local entry = redis.call('HGET', key, ARGV[2])
  if not entry then return 0 end
  local consumer, till = string.match(entry, '^(%S+) (%S+)$')
  if consumer and (till == '0' or tonumber(ARGV[3]) < tonumber(till)) then
    redis.call('HSET', key, ARGV[2], consumer .. ' ' .. ARGV[3])
  end
  return 1
elseif op == 'all' then
  return redis.call('HGETALL', key)
elseif op == 'changed' then
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now * 1000 - ARGV[3])
  redis.call('ZADD', key, now * 1000, ARGV[2])
  redis.call('PEXPIRE', key, ARGV[3])
  return 1
end
return redis.call('ZRANGEBYSCORE', key, now * 1000 - ARGV[2], '+inf', 'WITHSCORES')
