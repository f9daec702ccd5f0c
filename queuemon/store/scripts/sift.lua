-- Take elements out of a parked list, one window from its head at a time; the order of the others stays.
--
-- KEYS[1] pause flag        KEYS[2] parked list        KEYS[3] its sifted part        KEYS[4] quarantine of the queue
-- ARGV[1] elements of the window, at most 250        ARGV[2] elements that the sifted part holds by now, -1: any number
-- ARGV[3..] per element to take out: its index from 0, and the element
-- Returns how many are left to look at; -1 when the window is not what was seen: read it again; -2 when the queue is not
-- parked (any more); -3 when the sifted part is not as it was left: begin again. Needs all keys in one slot.
--
-- What stays of a window goes to the end of the sifted part, what does not to the end of the quarantine, in the same call that
-- takes the window off the parked list; when nothing is left the sifted part becomes the parked list. So at every moment
-- the sifted part and the parked list after it, with the quarantine, hold everything: whoever dies between two calls
-- loses nothing, the pause's end joins both parts (set_pause), and the next filter begins by joining them. What is
-- published meanwhile is looked at too. A call that is repeated because its answer was lost changes nothing.

if redis.call('HGET', KEYS[1], 'hard') ~= '1' then
  return -2
end
local sifted = tonumber(ARGV[2])
if sifted >= 0 and redis.call('LLEN', KEYS[3]) ~= sifted then
  return -3
end
local size = tonumber(ARGV[1])
local window = size > 0 and redis.call('LRANGE', KEYS[2], 0, size - 1) or {}
if #window < size then
  return -1
end
local out = {}
for i = 3, #ARGV, 2 do
  local at = tonumber(ARGV[i]) + 1
  if window[at] ~= ARGV[i + 1] then
    return -1
  end
  out[at] = true
end
local kept, taken = {}, {}
for at, element in ipairs(window) do
  local to = out[at] and taken or kept
  to[#to + 1] = element
end

if #kept > 0 then
  redis.call('RPUSH', KEYS[3], unpack(kept))
end
if #taken > 0 then
  redis.call('RPUSH', KEYS[4], unpack(taken))
end
if size > 0 then
  redis.call('LTRIM', KEYS[2], size, -1)
end
local left = redis.call('LLEN', KEYS[2])
if left == 0 and redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('RENAME', KEYS[3], KEYS[2])
end
return left
