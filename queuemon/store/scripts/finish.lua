-- Empty a worker's hand of an element, and drop the job's marker unless a newer generation has been published.
--
-- KEYS[1] in-hand list        KEYS[2] marker of the job
-- ARGV[1] element        ARGV[2] generation that the element stands for
-- Returns how many elements were removed. Repeating it changes nothing. Needs all keys in one slot.

local removed = redis.call('LREM', KEYS[1], 1, ARGV[1])
local known = tonumber(redis.call('HGET', KEYS[2], 'gen') or 0) or 0
if known <= tonumber(ARGV[2]) then
  redis.call('DEL', KEYS[2])
end
return removed
