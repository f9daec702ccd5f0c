-- Publish jobs of one queue: push each whose marker does not carry this generation or a newer one.
--
-- KEYS[1] list of the queue        KEYS[2] wake list        KEYS[3] pause flag        KEYS[4] parked list
-- KEYS[5..] marker of each job, at most 250
-- ARGV[1] name of the queue        ARGV[2] marker's time to live, s        ARGV[3] most wake tokens
-- ARGV[4..] per job: generation, element
-- While the flag says that the list is parked they are pushed there, and nobody is woken.
-- Returns how many were pushed. Repeating it changes nothing. Needs all keys in one slot.

local fresh, elements = {}, {}
for i = 5, #KEYS do
  local gen = tonumber(ARGV[2 * i - 6])
  local known = tonumber(redis.call('HGET', KEYS[i], 'gen') or 0) or 0
  if known < gen then
    fresh[#fresh + 1] = i
    elements[#elements + 1] = ARGV[2 * i - 5]
  end
end
if #fresh == 0 then
  return 0
end

-- Push first: where the list has another type, nothing has been marked as published.
local parked = redis.call('HGET', KEYS[3], 'hard') == '1'
redis.call('RPUSH', parked and KEYS[4] or KEYS[1], unpack(elements))
for _, i in ipairs(fresh) do
  redis.call('HSET', KEYS[i], 'gen', ARGV[2 * i - 6], 'queue', ARGV[1])
  redis.call('EXPIRE', KEYS[i], ARGV[2])
end

if parked then
  return #fresh
end
local tokens = math.min(#fresh, tonumber(ARGV[3]) - redis.call('LLEN', KEYS[2]))
for _ = 1, tokens do
  redis.call('RPUSH', KEYS[2], '1')
end
return #fresh
