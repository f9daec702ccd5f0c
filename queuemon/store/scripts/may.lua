-- Whether the user of this connection may do what actions, the relay and our workers do. Touches no key.
--
-- ARGV per key: kind (list, hash, text), name
-- Returns what is not allowed, as "COMMAND name"; empty when all is. Servers without ACLs for scripts answer nothing.

local commands = {
  list = {'LPUSH', 'RPUSH', 'LMOVE', 'LREM', 'LTRIM', 'LSET', 'RENAME', 'PERSIST', 'LRANGE', 'BLPOP'},
  hash = {'HSET', 'HDEL', 'HMGET', 'EXPIRE', 'DEL'},
  text = {'GET', 'SET'},
}
local rest = {
  LPUSH = {'x'}, RPUSH = {'x'}, LREM = {'1', 'x'}, LTRIM = {'0', '1'}, LSET = {'0', 'x'}, LRANGE = {'0', '1'}, BLPOP = {'1'},
  HSET = {'f', 'v'}, HDEL = {'f'}, HMGET = {'f'}, EXPIRE = {'1'}, SET = {'v'},
}
local refused = {}
for i = 1, #ARGV, 2 do
  local key = ARGV[i + 1]
  for _, command in ipairs(commands[ARGV[i]]) do
    local words = {command, key}
    if command == 'RENAME' then
      words[3] = key
    elseif command == 'LMOVE' then
      words[3], words[4], words[5] = key, 'LEFT', 'RIGHT'
    end
    for _, word in ipairs(rest[command] or {}) do
      words[#words + 1] = word
    end
    if not redis.acl_check_cmd(unpack(words)) then
      refused[#refused + 1] = command .. ' ' .. key
    end
  end
end
return refused
