-- Set an element of a worker's hand aside, raw: nobody can read it, and nothing is thrown away.
--
-- KEYS[1] in-hand list        KEYS[2] quarantine of the queue
-- ARGV[1] element
-- Returns 1, or 0 when the hand no longer holds it. Repeating it changes nothing. Needs all keys in one slot.

if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then
  return 0
end
redis.call('RPUSH', KEYS[2], ARGV[1])
return 1
