-- Say that Redis holds all that waits, unless it was lost again since the restoration began.
--
-- KEYS[1] epoch
-- ARGV[1] what the restoration wrote when it began        ARGV[2] what to write now
-- Returns 1 when written, else 0.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
