-- The one function of Redis's `struct` library that the scripts use, for the Lua of fakeredis, which has none of it:
-- unpack(">ddd", data, position) reads big-endian doubles (IEEE 754 binary64) and returns them and the next position.

local struct = {}

local function double(data, at)
  local b1, b2, b3, b4, b5, b6, b7, b8 = string.byte(data, at, at + 7)
  local sign = b1 >= 128 and -1 or 1
  local exponent = (b1 % 128) * 16 + math.floor(b2 / 16)
  local fraction = b2 % 16
  for _, byte in ipairs({ b3, b4, b5, b6, b7, b8 }) do
    fraction = fraction * 256 + byte
  end
  if exponent == 2047 then
    return fraction == 0 and sign * math.huge or 0 / 0
  elseif exponent == 0 then
    return sign * fraction * 2 ^ -1074
  end
  return sign * (1 + fraction / 2 ^ 52) * 2 ^ (exponent - 1023)
end

function struct.unpack(format, data, position)
  local doubles = string.match(format, '^>(d+)$')
  if not doubles then
    error('this struct reads big-endian doubles only, not ' .. format)
  end
  local at, found = position or 1, {}
  for index = 1, #doubles do
    found[index] = double(data, at)
    at = at + 8
  end
  found[#found + 1] = at
  return unpack(found)
end

return struct
