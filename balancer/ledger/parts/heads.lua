-- Which tasks of each lane a bounded view shows.

-- The first heads of lanes, with their places: of all alike, then more of those whose next one may come before what others show, until
-- as many are shown as there are units, and nothing unseen comes before those. Tasks of unlike sizes stand in lanes that are used up unlike.
local function read_heads(ids, sizes, units)
  local each, left, sure = math.min(units, math.max(4, math.ceil(2 * units / #ids))), units, 0
  local heads, shown, last, ahead, score = {}, {}, {}, {}, {}
  -- More heads of one lane. `last`: where the first may stand that is not shown; what cannot be needed stands nowhere.
  local function read(n, count)
    local found, h = redis.call('ZRANGE', k_lane(ids[n]), shown[n], shown[n] + count - 1, 'WITHSCORES'), heads[n]
    for i = 1, #found do h[#h + 1] = found[i] end
    shown[n] = #h / 2
    last[n] = shown[n] < math.min(sizes[n], units) and tonumber(h[#h]) or math.huge
    score[n] = score[n] or tonumber(h[2]) or math.huge
  end
  for n = 1, #ids do
    heads[n], shown[n], ahead[n] = {}, 0, 0
    read(n, each)
  end
  while left > 0 do
    local first = 1
    for n = 2, #ids do
      if last[n] < last[first] then first = n end
    end
    if not last[first] or last[first] == math.huge then break end
    for n = 1, #ids do
      while score[n] <= last[first] do
        sure, ahead[n] = sure + 1, ahead[n] + 1
        score[n] = tonumber(heads[n][2 * ahead[n] + 2]) or math.huge
      end
    end
    if sure >= units then break end
    local more = math.min(left, math.max(4, math.ceil(units / 8)), math.min(sizes[first], units) - shown[first])
    read(first, more)
    left = left - more
    score[first] = tonumber(heads[first][2 * ahead[first] + 2]) or math.huge
  end
  return heads
end
