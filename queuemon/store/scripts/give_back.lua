-- Return an element from a worker's hand to the head of a queue, where it is taken next.
--
-- KEYS[1] in-hand list        KEYS[2] list of the queue        KEYS[3] its pause flag        KEYS[4] its parked list
-- KEYS[5] wake list, or none: nobody is woken
-- ARGV[1] element
-- While the flag says that the list is parked it goes there, and nobody is woken.
-- Returns 1, or 0 when the hand no longer holds it. Repeating it changes nothing. Needs all keys in one slot.

if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then
  return 0
end
if redis.call('HGET', KEYS[3], 'hard') == '1' then
  redis.call('LPUSH', KEYS[4], ARGV[1])
  return 1
end
redis.call('LPUSH', KEYS[2], ARGV[1])
if KEYS[5] and redis.call('LLEN', KEYS[5]) == 0 then
  redis.call('RPUSH', KEYS[5], '1')
end
return 1
