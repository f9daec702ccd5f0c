-- Take an element out of the middle of a list: raw into the quarantine, and in its place what every worker drops.
--
-- KEYS[1] list        KEYS[2] quarantine of the queue
-- ARGV[1] what takes its place        ARGV[2] elements that lay between it and the push end        ARGV[3] how many
-- more may have come since, at most 1,000        ARGV[4] element
-- Returns 1, or 0 when it does not lie there (any more). Repeating it changes nothing. Needs all keys in one slot.
-- LREM would walk and compare the whole list; this walks its nodes twice (1 M elements: 1 to 10 ms, LREM 200).

local depth = tonumber(ARGV[2])
local raws = redis.call('LRANGE', KEYS[1], -(depth + ARGV[3] + 1), -(depth + 1))
for i = #raws, 1, -1 do
  if raws[i] == ARGV[4] then
    redis.call('RPUSH', KEYS[2], ARGV[4])
    redis.call('LSET', KEYS[1], -(depth + 1 + #raws - i), ARGV[1])
    return 1
  end
end
return 0
