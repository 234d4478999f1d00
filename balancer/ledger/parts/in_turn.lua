-- Which classes of a role, and which agents of a class, a bounded view begins with.
local CLASSES = 256
-- Of more classes than a picture holds, the last so many are others in each view.
local OTHER_CLASSES = 64
-- Where what is read in turn starts; set by the script.
local PIVOT

-- `most` members of an index from a place behind the first ones, drawn with each view, and round to there again.
local function read_others(command, key, first, size, most, ...)
  local from = first + PIVOT % (size - first)
  local found = redis.call(command, key, from, math.min(from + most, size) - 1, ...)
  local short = from + most - size
  if short > 0 then
    local rest = redis.call(command, key, first, math.min(first + short, from) - 1, ...)
    for i = 1, #rest do found[#found + 1] = rest[i] end
  end
  return found
end

-- The classes of a role with free units, each with how many: those with most, and where there are more than a picture holds,
-- some of the others. A task that only one of them can do so waits for a few views at most.
local function free_classes(role)
  local key, first = k_fc(role), CLASSES - OTHER_CLASSES
  local found = redis.call('ZREVRANGE', key, 0, CLASSES - 1, 'WITHSCORES')
  local size = #found == 2 * CLASSES and redis.call('ZCARD', key) or 0
  if size <= CLASSES then return found end
  local others = read_others('ZREVRANGE', key, first, size, OTHER_CLASSES, 'WITHSCORES')
  for i = 1, #others do found[2 * first + i] = others[i] end
  return found
end

-- The first agents of a class in turn, behind them the least loaded: whoever is next may be too full for a large cost. `barred`:
-- so many of those with free units may be out of the question for one lane, so as many more are shown.
local function first_in_turn(cid, each, barred)
  local most = each + barred
  local function least_loaded(n) return redis.call('ZRANGE', k_free(cid), 0, n - 1) end
  if ORDER == 'load' then return least_loaded(most), 0 end
  local ids, shown, extra = {}, {}, 0
  if ORDER == 'grant' then ids = redis.call('ZRANGE', k_turn(cid), 0, most - 1) end
  if ORDER == 'draw' then
    local from = str(PIVOT - 281474976710656)
    ids = redis.call('ZRANGEBYSCORE', k_turn(cid), from, '+inf', 'LIMIT', 0, most)
    local rest = redis.call('ZRANGEBYSCORE', k_turn(cid), '-inf', '(' .. from, 'LIMIT', 0, most - #ids)
    for _, id in ipairs(rest) do ids[#ids + 1] = id end
  end
  for _, id in ipairs(ids) do shown[id] = true end
  for _, id in ipairs(least_loaded(math.min(4, each) + barred)) do
    if not shown[id] then
      ids[#ids + 1] = id
      extra = extra + 1
    end
  end
  return ids, extra
end
