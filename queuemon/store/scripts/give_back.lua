-- Return an element from a worker's hand to the head of a list, where it is taken next.
--
-- KEYS[1] in-hand list        KEYS[2] list of the queue        KEYS[3] wake list, or none: nobody is woken
-- ARGV[1] element
-- Returns 1, or 0 when the hand no longer holds it. Repeating it changes nothing. Needs all keys in one slot.

if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then
  return 0
end
redis.call('LPUSH', KEYS[2], ARGV[1])
if KEYS[3] and redis.call('LLEN', KEYS[3]) == 0 then
  redis.call('RPUSH', KEYS[3], '1')
end
return 1
