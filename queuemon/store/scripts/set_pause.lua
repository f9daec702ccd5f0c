-- Copy PostgreSQL's pause flag of one queue, unless a newer one is already there.
--
-- KEYS[1] pause flag        KEYS[2] wake list
-- ARGV[1] 1 paused, 0 running        ARGV[2] epoch        ARGV[3] until, ISO 8601, or empty        ARGV[4] most wake tokens
-- Returns 1 when written, 0 when a newer epoch stands there. Repeating it changes nothing. Needs all keys in one slot.

local known = tonumber(redis.call('HGET', KEYS[1], 'epoch') or -1) or -1
if known > tonumber(ARGV[2]) then
  return 0
end
redis.call('HSET', KEYS[1], 'paused', ARGV[1], 'epoch', ARGV[2], 'until', ARGV[3])
if ARGV[1] == '0' then
  -- The queue may be full: idle workers must look at once.
  for _ = redis.call('LLEN', KEYS[2]) + 1, tonumber(ARGV[4]) do
    redis.call('RPUSH', KEYS[2], '1')
  end
end
return 1
