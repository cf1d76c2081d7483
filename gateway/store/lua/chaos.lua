-- One of the keys with which operators make trouble by hand: chaos:{upstream}:error_rate and its like.
--
-- KEYS[1]  a string, a number in words. A key of another type is somebody else's, and is left alone.
-- ARGV     operation, then
--   read   the longest life in ms    -> value, ms to its end; nothing where there is no such key
--   drop                             -> 1: it was there

local key = KEYS[1]
if redis.call('TYPE', key).ok ~= 'string' then return {} end
if ARGV[1] == 'drop' then return { redis.call('DEL', key) } end
local most, left = tonumber(ARGV[2]), redis.call('PTTL', key)
if left < 0 or left > most then
  redis.call('PEXPIRE', key, ARGV[2])
  left = most
end
return { redis.call('GET', key), left }
