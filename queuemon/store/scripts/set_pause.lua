-- Copy PostgreSQL's pause flag of one queue, unless a newer one is already there, and park or give back its list with it.
--
-- KEYS[1] pause flag        KEYS[2] wake list        KEYS[3] list        KEYS[4] parked list        KEYS[5] its sifted part
-- ARGV[1] 1 paused, 0 running        ARGV[2] epoch        ARGV[3] until, ISO 8601, or empty        ARGV[4] most wake tokens
-- ARGV[5] 1 the list is parked, 0 it is not; empty: only the flag is written, by a worker that knows no more
-- ARGV[6] most elements to move; a large element counts for more (1 per 1,000 bytes)
-- Returns 1 when written, 0 when a newer epoch stands there, 2 when more must be moved: call again. Repeating it changes
-- nothing. Needs all keys in one slot.
--
-- Order: sifted part, parked list, list; each is older than the next. A list is renamed only onto a name that is free (RENAME
-- throws away what stands there), so parking and giving back cost the same whatever the length. Only where both names
-- are taken (others pushed meanwhile) elements are moved, the oldest first. While more is left to give back the flag
-- stays as it is: publications still go to the parked list, and whoever dies here is followed by the relay.

local known = tonumber(redis.call('HGET', KEYS[1], 'epoch') or -1) or -1
if known > tonumber(ARGV[2]) then
  return 0
end

local left = tonumber(ARGV[6] or 0)
local function moved_all(from, to)
  while left > 0 do
    local element = redis.call('LMOVE', from, to, 'LEFT', 'RIGHT')
    if not element then
      return true
    end
    left = left - 1 - math.floor(#element / 1000)
  end
  return redis.call('LLEN', from) == 0
end

if ARGV[5] == '1' then
  -- Written first: where the list turns out to be no list, the pause holds all the same.
  redis.call('HSET', KEYS[1], 'paused', ARGV[1], 'epoch', ARGV[2], 'until', ARGV[3], 'hard', '1')
  if redis.call('LLEN', KEYS[3]) == 0 then
    return 1
  end
  if redis.call('EXISTS', KEYS[4]) == 0 then
    redis.call('RENAME', KEYS[3], KEYS[4])
    redis.call('PERSIST', KEYS[4]) -- a time to live would go on, with nobody to take from it
    return 1
  end
  return moved_all(KEYS[3], KEYS[4]) and 1 or 2
end

if ARGV[5] == '0' then
  if redis.call('EXISTS', KEYS[5]) == 1 then
    if not moved_all(KEYS[4], KEYS[5]) then
      return 2
    end
    redis.call('RENAME', KEYS[5], KEYS[4])
  end
  if redis.call('EXISTS', KEYS[4]) == 1 then
    if not moved_all(KEYS[3], KEYS[4]) then
      return 2
    end
    redis.call('RENAME', KEYS[4], KEYS[3])
  end
  redis.call('HDEL', KEYS[1], 'hard')
end
redis.call('HSET', KEYS[1], 'paused', ARGV[1], 'epoch', ARGV[2], 'until', ARGV[3])
if ARGV[1] == '0' then
  -- The queue may be full: idle workers must look at once.
  for _ = redis.call('LLEN', KEYS[2]) + 1, tonumber(ARGV[4]) do
    redis.call('RPUSH', KEYS[2], '1')
  end
end
return 1
