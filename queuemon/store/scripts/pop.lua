-- Take the next job into a worker's hand: what already lies there, else the head of the first queue that is not paused.
--
-- KEYS per queue, in the order of service, at most 250 queues: pause flag, list, in-hand list of this worker
-- Returns {number of the queue counted from 1, element}, or nil. Repeating it after a lost reply returns the same element.
-- Needs all keys in one slot.

local hands = {}
for i = 3, #KEYS, 3 do
  hands[#hands + 1] = KEYS[i]
end
if #hands > 0 and redis.call('EXISTS', unpack(hands)) > 0 then
  for n, hand in ipairs(hands) do
    local element = redis.call('LINDEX', hand, 0)
    if element then
      return {n, element}
    end
  end
end

for i = 1, #KEYS, 3 do
  if redis.call('HGET', KEYS[i], 'paused') ~= '1' then
    local element = redis.call('LMOVE', KEYS[i + 1], KEYS[i + 2], 'LEFT', 'RIGHT')
    if element then
      return {(i + 2) / 3, element}
    end
  end
end
return nil
