-- Keys of another type than theirs, which somebody else has written. Every script begins with this file and ends with
-- `return answered(...)`; gateway/store/redis/client.py says how they are joined.

local removed = {}

-- Remove the key if it is of another type than `wanted`. Whether it was.
local function remove_foreign(key, wanted)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' or kind == wanted then return false end
  redis.call('DEL', key)
  removed[#removed + 1] = key
  removed[#removed + 1] = kind
  return true
end

-- The answer, in an envelope that names the keys that were removed and their types, if there are any.
local function answered(answer)
  if #removed == 0 then return answer end
  return { 'REMOVED', removed, answer }
end

