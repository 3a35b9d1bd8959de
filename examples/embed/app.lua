-- app.lua - the configuration of app.c: a user's pipeline of the functions that the host offers.
local app = _G.app -- set by app.c
local sensor, report = fz.stage "sensor", fz.stage "report"

sensor:register("celsius", "fahrenheit", app.to_celsius)
sensor:register("dew_point", { "fahrenheit", "humidity" }, function(fahrenheit, humidity)
  return app.to_celsius(fahrenheit) - (100 - humidity) / 5
end)

report:register("text", { "celsius", "dew_point" }, function(celsius, dew_point)
  return ("%.1f C, dew point %.1f C, %s"):format(celsius, dew_point, app.unit_of("humidity"))
end)

return sensor >> report
